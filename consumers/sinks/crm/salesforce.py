"""Salesforce: records of one object by sObject Collections upsert, 200 a call, by an external id field.

The call and its results, in the order of the records and with HTTP 200 whatever became of each:
https://developer.salesforce.com/docs/platform/api-rest/guide/resources-composite-sobjects-collections-upsert.html
Error bodies, and 403 with REQUEST_LIMIT_EXCEEDED for the limit:
https://developer.salesforce.com/docs/platform/api-rest/guide/errorcodes.html
Limits, 100,000 calls in any 24 hours and more by licence:
https://developer.salesforce.com/docs/atlas.en-us.salesforce_app_limits_cheatsheet.meta/salesforce_app_limits_cheatsheet/salesforce_app_limits_platform_api.htm
Erasing, by external id:
https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_sobject_upsert_delete.htm
Two records of one external id in a call, or two calls at once, are answered DUPLICATE_VALUE or UNABLE_TO_LOCK_ROW: a
batch is collapsed to one record a contact, a contact is in one hand, and those two codes are tried again.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from .answers import Answer, Unclear, code, json_of, objects, retry_after, text, whole
from .line import Request
from .outcome import UNAUTHORISED, Ok, Outcome, Reject, Retry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .mapping import Item
    from .settings import Settings

VERSION = "v67.0"

_NOT_NOW = {"UNABLE_TO_LOCK_ROW", "DUPLICATE_VALUE", "SERVER_UNAVAILABLE", "UNKNOWN_EXCEPTION", "QUERY_TIMEOUT"}
_OPERATOR = {
    "INVALID_SESSION_ID",
    "INSUFFICIENT_ACCESS",
    "INSUFFICIENT_ACCESS_OR_READONLY",
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY",
    "API_DISABLED_FOR_ORG",
    "STORAGE_LIMIT_EXCEEDED",
}
_LIMIT = "REQUEST_LIMIT_EXCEEDED"
_LIMIT_S = 600.0  # of a window of 24 hours; it does not say when


class Salesforce:
    """A dialect (`adapter.py`)."""

    max_items = 200

    def __init__(self, settings: Settings) -> None:
        names = settings.field_map
        version = settings.api_version or VERSION
        self._id, self._object = names.id, names.object
        self._sobjects = f"/services/data/{version}/sobjects"
        self._path = f"/services/data/{version}/composite/sobjects/{quote(names.object)}/{quote(names.id)}"
        self._pause_s = settings.pause_s
        self._headers = {
            "Authorization": f"Bearer {settings.token.get_secret_value()}",
            "Content-Type": "application/json",
            "Accept": "application/json",
        }

    def request(self, items: Sequence[Item]) -> Request:
        """Make a collections upsert. An empty value is sent as null: "" is no date to Salesforce."""
        records = [
            {"attributes": {"type": self._object}, self._id: one.contact}
            | {name: value or None for name, value in one.properties.items()}
            for one in items
        ]
        body = {"allOrNone": False, "records": records}
        return Request("PATCH", self._path, self._headers, orjson.dumps(body))

    def read(self, answer: Answer, items: Sequence[Item]) -> list[Outcome | Unclear]:
        """Return one verdict an item, in order; results without as many entries as items tell nothing."""
        results = objects(json_of(answer.body))
        if answer.status not in range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES):
            return [self._whole(answer, _codes(results))] * len(items)
        if len(results) != len(items):
            return [Retry("crm-no-verdict")] * len(items)
        return [self._one(result) for result in results]

    def find(self, contact: str) -> None:
        """Ask nothing: it erases by our own external id."""

    def found(self, answer: Answer) -> None:
        """Read nothing."""

    def erasure(self, contact: str, remote_id: str | None) -> Request:  # noqa: ARG002  # others go by it
        """Delete the record by its external id; the Recycle Bin keeps it for 15 days."""
        path = f"{self._sobjects}/{quote(self._object)}/{quote(self._id)}/{quote(contact, safe='')}"
        return Request("DELETE", path, self._headers, b"")

    def erased(self, answer: Answer) -> Outcome | Unclear:
        """Read its answer: 204, or 404 with NOT_FOUND."""
        codes = _codes(objects(json_of(answer.body)))
        if answer.status == HTTPStatus.NO_CONTENT or (answer.status == HTTPStatus.NOT_FOUND and "NOT_FOUND" in codes):
            return Ok(None)
        return self._whole(answer, codes)

    def _whole(self, answer: Answer, codes: list[str]) -> Retry | Unclear:
        if _LIMIT in codes:
            return Retry("crm-rate-limit", retry_after(answer) or _LIMIT_S)
        return whole(answer, self._by_code(codes), self._pause_s)

    def _one(self, result: dict[str, Any]) -> Outcome:
        if result.get("success") is True:
            return Ok(text(result.get("id")))
        return self._by_code(_codes(objects(result.get("errors"))), named=True)

    def _by_code(self, codes: list[str], *, named: bool = False) -> Retry | Reject:
        """Judge by the first code; what an operator or time can mend goes before what is wrong with the record."""
        if _LIMIT in codes:
            return Retry("crm-rate-limit", _LIMIT_S)
        if any(one in _OPERATOR for one in codes):
            return Retry(UNAUTHORISED, self._pause_s)
        passing = [one for one in codes if one in _NOT_NOW]
        return Retry(code(passing[0]), named=named) if passing else Reject(code(codes[0] if codes else None))


def _codes(errors: list[dict[str, Any]]) -> list[str]:
    """Return the codes: a call's error has `errorCode`, a record's `statusCode`."""
    return [str(error.get("statusCode") or error.get("errorCode")) for error in errors]
