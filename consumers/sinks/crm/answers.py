"""What all vendors' answers have in common; each vendor's own file reads the rest, item by item."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from .outcome import UNAUTHORISED, Reject, Retry

if TYPE_CHECKING:
    from collections.abc import Mapping

_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_OPERATOR_STATUS = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_CONTENT_STATUS = {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
_PASSING_STATUS = {408, 423, 425, 477}  # 477: HubSpot moves the account just now
_LONGEST_PAUSE_S = 3_600.0


class Answer(NamedTuple):
    """What came back of a call."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Unclear(NamedTuple):
    """Something of these items is refused, and the answer does not say which: ask with fewer.

    `alone` is the verdict if there is but one.
    """

    alone: Retry | Reject


def whole(answer: Answer, alone: Retry | Reject, pause_s: float, limit_s: float = 10.0) -> Retry | Unclear:
    """Judge a call that was refused as a whole.

    Args:
        answer: one that is not 2xx.
        alone: what it means if one item is to blame.
        pause_s: pause for what only an operator can mend.
        limit_s: pause after 429 without `Retry-After`.
    """
    status = answer.status
    if status in _OPERATOR_STATUS:
        return Retry(UNAUTHORISED, pause_s)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Retry("crm-rate-limit", retry_after(answer) or limit_s)
    if status in _CONTENT_STATUS:
        return Unclear(alone) if isinstance(alone, Reject) else alone
    if status == HTTPStatus.CONFLICT:
        return Unclear(Retry("crm-status-409", retry_after(answer), named=True))
    mendable = status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _PASSING_STATUS
    return Retry(f"crm-status-{status}", retry_after(answer) or (pause_s if mendable else None))


def code(said: object) -> str:
    """Make a reason of a vendor's code, such as `crm-invalid-email`; free text becomes `crm-unknown`."""
    known = isinstance(said, str) and _CODE.fullmatch(said)
    return f"crm-{said.lower().replace('_', '-')}" if isinstance(said, str) and known else "crm-unknown"


def retry_after(answer: Answer) -> float | None:
    """Read `Retry-After` (RFC 9110, 10.2.3): seconds, or a date; an hour at most."""
    value = answer.headers.get("Retry-After", "")
    if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", value):
        return min(float(value), _LONGEST_PAUSE_S)
    try:
        wait_s = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):  # not a date, or one without a zone
        return None
    return min(max(wait_s, 0.0), _LONGEST_PAUSE_S)


def json_of(body: bytes) -> Any:  # noqa: ANN401  # JSON
    """Return the decoded body, None if it is not JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def objects(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list; none if it is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def text(value: object) -> str | None:
    """Return a string or an integer as text, None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None
