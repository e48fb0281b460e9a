"""HubSpot: objects by batch upsert, 100 a call.

The call: https://developers.hubspot.com/docs/api-reference/crm-contacts-v3/batch/upsert-contacts (v3) and the dated
API of the same shape. A partial failure comes as 207 (v3) or as 200 with `errors` and `numErrors` (dated API). Limits
per account: https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines, 100, 190 or 250 calls in
any 10 seconds; 429 names the limit in `policyName`. Erasing: GDPR delete, by HubSpot's own id,
https://developers.hubspot.com/docs/api-reference/crm-contacts-v3/basic/post-crm-v3-objects-contacts-gdpr-delete
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from .answers import Answer, Unclear, code, json_of, objects, text, whole
from .line import Request
from .outcome import UNAUTHORISED, Ok, Outcome, Reject, Retry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .mapping import Item
    from .settings import Settings

VERSION = "2026-09"  # v1 to v3 end in 2027-09

_LIMITS = {"RATE_LIMIT", "RATE_LIMITS"}
_NOT_NOW = {"INTERNAL_ERROR", "TIMEOUT", "SERVICE_UNAVAILABLE", "CONFLICT", "LOCKED"}
_OPERATOR = {"INVALID_AUTHENTICATION", "EXPIRED_AUTHENTICATION", "MISSING_SCOPES", "UNAUTHORIZED", "FORBIDDEN"}
# Where it asks for a pause without saying for how long.
_POLICY_S = {"SECONDLY": 1.0, "TEN_SECONDLY_ROLLING": 10.0, "DAILY": 600.0}


class HubSpot:
    """A dialect (`adapter.py`). The sandbox CRM has the same shape."""

    max_items = 100

    def __init__(self, settings: Settings) -> None:
        self._id = settings.field_map.id
        self._objects = _path(settings.api_version or VERSION, quote(settings.field_map.object, safe=""))
        self._path = f"{self._objects}/batch/upsert"
        self._pause_s = settings.pause_s
        self._headers = {
            "Authorization": f"Bearer {settings.token.get_secret_value()}",
            "Content-Type": "application/json",
            "Accept": "application/json",
        }

    def request(self, items: Sequence[Item]) -> Request:
        """Make a batch upsert by our own unique property."""
        inputs = [
            {
                "idProperty": self._id,
                "id": one.contact,
                "objectWriteTraceId": one.event_id,  # comes back in results and errors
                "properties": {self._id: one.contact, **one.properties},
            }
            for one in items
        ]
        return Request("POST", self._path, self._headers, orjson.dumps({"inputs": inputs}))

    def read(self, answer: Answer, items: Sequence[Item]) -> list[Outcome | Unclear]:
        """Return one verdict an item, in order."""
        decoded = json_of(answer.body)
        body = decoded if isinstance(decoded, dict) else {}
        if answer.status in range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES):
            return self._each(body, items)
        limit_s = _POLICY_S.get(str(body.get("policyName")), 10.0)
        return [whole(answer, self._by_category(body, named=False), self._pause_s, limit_s)] * len(items)

    def find(self, contact: str) -> Request:
        """Ask for the contact by our own unique property."""
        path = f"{self._objects}/{quote(contact, safe='')}?idProperty={quote(self._id, safe='')}"
        return Request("GET", path, self._headers, b"")

    def found(self, answer: Answer) -> str | Retry | None:
        """Return HubSpot's own id of it."""
        decoded = json_of(answer.body)
        body = decoded if isinstance(decoded, dict) else {}
        if answer.status == HTTPStatus.NOT_FOUND and body.get("category") == "OBJECT_NOT_FOUND":
            return None
        if answer.status == HTTPStatus.OK and (remote_id := text(body.get("id"))):
            return remote_id
        verdict = whole(answer, Retry("crm-no-verdict"), self._pause_s)
        return verdict if isinstance(verdict, Retry) else Retry("crm-no-verdict", self._pause_s)

    def erasure(self, contact: str, remote_id: str | None) -> Request:  # noqa: ARG002  # others go by it
        """Delete for good, with history and all that hangs on it (GDPR delete); archiving would keep it for 90 days."""
        return Request("POST", f"{self._objects}/gdpr-delete", self._headers, orjson.dumps({"objectId": remote_id}))

    def erased(self, answer: Answer) -> Outcome | Unclear:
        """Read its answer, 204 whether or not the contact was still there."""
        if answer.status in range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES):
            return Ok(None)
        body = json_of(answer.body)
        return whole(answer, self._by_category(body if isinstance(body, dict) else {}, named=False), self._pause_s)

    def _each(self, body: dict[str, Any], items: Sequence[Item]) -> list[Outcome | Unclear]:
        """Judge every item by what the answer says of it; what it does not mention is not known to be done."""
        results, errors = objects(body.get("results")), objects(body.get("errors"))
        found: dict[str, Outcome] = {}
        lost: Outcome | Unclear = Retry("crm-no-verdict", named=bool(results))
        for result in results:
            found |= dict.fromkeys(self._names(result) & _keys(items), Ok(text(result.get("id"))))
        for error in errors:
            if names := self._names(error) & _keys(items):
                found |= dict.fromkeys(names, self._by_category(error, named=True))
            else:
                verdict = self._by_category(error, named=False)
                lost = Unclear(verdict) if isinstance(verdict, Reject) else verdict
        return [found.get(one.event_id) or found.get(one.contact) or lost for one in items]

    def _names(self, part: dict[str, Any]) -> set[str]:
        """Return by what a result or an error may name its item: the trace id that we gave it, or its contact."""
        properties, context = part.get("properties"), part.get("context")
        names = [part.get("objectWriteTraceId"), part.get("id")]
        names += [properties.get(self._id)] if isinstance(properties, dict) else []
        for values in context.values() if isinstance(context, dict) else ():
            names += values if isinstance(values, list) else [values]
        return {name for name in names if isinstance(name, str)}

    def _by_category(self, error: dict[str, Any], *, named: bool) -> Retry | Reject:
        category = str(error.get("category"))
        if category in _OPERATOR:
            return Retry(UNAUTHORISED, self._pause_s)
        if category in _LIMITS:
            return Retry(code(category))
        return Retry(code(category), named=named) if category in _NOT_NOW else Reject(code(category))


def _keys(items: Sequence[Item]) -> set[str]:
    return {one.event_id for one in items} | {one.contact for one in items}


def _path(version: str, name: str) -> str:
    return f"/crm/{version}/objects/{name}" if version.startswith("v") else f"/crm/objects/{version}/{name}"
