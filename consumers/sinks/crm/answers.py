"""Reads HubSpot's answers item by item: a partial failure may come as 207 (v3) or as 200 with `errors` (dated API)."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from .mapping import ID_PROPERTY
from .outcome import Ok, Outcome, Reject, Retry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .mapping import Item

_CATEGORY = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_NOT_NOW = {"RATE_LIMIT", "RATE_LIMITS", "INTERNAL_ERROR", "TIMEOUT", "SERVICE_UNAVAILABLE", "CONFLICT", "LOCKED"}
_OPERATOR = {"INVALID_AUTHENTICATION", "EXPIRED_AUTHENTICATION", "MISSING_SCOPES", "UNAUTHORIZED", "FORBIDDEN"}
_OPERATOR_STATUS = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_CONTENT_STATUS = {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
# Where it asks for a pause without saying for how long.
_POLICY_S = {"SECONDLY": 1.0, "TEN_SECONDLY_ROLLING": 10.0, "DAILY": 600.0}
_LONGEST_PAUSE_S = 3_600.0

UNAUTHORISED = "crm-unauthorised"


class Answer(NamedTuple):
    """What came back of a call."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Unclear(NamedTuple):
    """Something of these items is refused, and the answer does not say which: ask with fewer."""

    code: str


def read(answer: Answer, items: Sequence[Item], pause_s: float) -> list[Outcome | Unclear]:
    """Return one verdict an item, in order. `pause_s` is for what only an operator can mend."""
    body = _object(answer.body)
    if answer.status in range(200, 300):
        return _each(body, items, pause_s)
    return [_whole(answer, body, pause_s)] * len(items)


def _whole(answer: Answer, body: dict[str, Any], pause_s: float) -> Outcome | Unclear:
    """Judge a call that was refused as a whole."""
    if answer.status in _OPERATOR_STATUS:
        return Retry(UNAUTHORISED, pause_s)
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return Retry("crm-rate-limit", _retry_after(answer) or _POLICY_S.get(str(body.get("policyName")), 10.0))
    if answer.status in _CONTENT_STATUS:
        verdict = _by_category(body, pause_s)
        return Unclear(verdict.code) if isinstance(verdict, Reject) else verdict
    mendable = answer.status < HTTPStatus.INTERNAL_SERVER_ERROR and answer.status not in (408, 409, 423, 425, 477)
    return Retry(f"crm-status-{answer.status}", _retry_after(answer) or (pause_s if mendable else None))


def _each(body: dict[str, Any], items: Sequence[Item], pause_s: float) -> list[Outcome | Unclear]:
    """Judge every item by what the answer says of it; what it does not mention is not known to be done."""
    results, errors = _objects(body.get("results")), _objects(body.get("errors"))
    found: dict[str, Outcome] = {}
    lost: Outcome | Unclear = Retry("crm-no-verdict")
    for result in results:
        found |= dict.fromkeys(_names(result) & _keys(items), Ok(_text(result.get("id"))))
    for error in errors:
        verdict = _by_category(error, pause_s)
        if names := _names(error) & _keys(items):
            found |= dict.fromkeys(names, verdict)
        else:
            lost = Unclear(verdict.code) if isinstance(verdict, Reject) else verdict
    return [found.get(one.event_id) or found.get(one.contact) or lost for one in items]


def _keys(items: Sequence[Item]) -> set[str]:
    return {one.event_id for one in items} | {one.contact for one in items}


def _names(part: dict[str, Any]) -> set[str]:
    """Return by what a result or an error may name its item: the trace id that we gave it, or its contact."""
    properties, context = part.get("properties"), part.get("context")
    names = [part.get("objectWriteTraceId"), part.get("id")]
    names += [properties.get(ID_PROPERTY)] if isinstance(properties, dict) else []
    for values in context.values() if isinstance(context, dict) else ():
        names += values if isinstance(values, list) else [values]
    return {name for name in names if isinstance(name, str)}


def _by_category(error: dict[str, Any], pause_s: float) -> Retry | Reject:
    category = str(error.get("category"))
    category = category if _CATEGORY.fullmatch(category) else "UNKNOWN"
    if category in _OPERATOR:
        return Retry(UNAUTHORISED, pause_s)
    code = f"crm-{category.lower().replace('_', '-')}"
    return Retry(code) if category in _NOT_NOW else Reject(code)


def _retry_after(answer: Answer) -> float | None:
    """Read `Retry-After` in seconds; the form with a date is not used by HubSpot."""
    value = answer.headers.get("Retry-After", "")
    return min(float(value), _LONGEST_PAUSE_S) if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", value) else None


def _object(body: bytes) -> dict[str, Any]:
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
