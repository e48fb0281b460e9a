"""Salesforce's collections upsert of one custom object, as strict as Salesforce documents it.

`consumers/sinks/crm/salesforce.py` cites the pages. The object is `Dial_Result__c` with the external id field
`Dial_Contact__c`; every other field is text of 255 characters, those that end in `_At__c` are date and time.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson

from ops.standalone.crm_desk import Input, Refused, Verdict, json_answer

if TYPE_CHECKING:
    from aiohttp import web

    from ops.standalone.crm_faults import Fault
    from ops.standalone.crm_window import Window

MAX_RECORDS = 200
OBJECT, ID_FIELD, EVENT_FIELD = "Dial_Result__c", "Dial_Contact__c", "Dial_Result_Event_Id__c"
_TEXT_CHARACTERS = 255
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,3})?(Z|[+-]\d{2}:?\d{2})")
_CODES = {401: "INVALID_SESSION_ID", 404: "NOT_FOUND", 500: "UNKNOWN_EXCEPTION", 503: "SERVER_UNAVAILABLE"}


class SalesforceApi:
    """A vendor of the desk."""

    def error(self, status: int, category: str | None, message: str) -> web.Response:
        code = category or _CODES.get(status, "JSON_PARSER_ERROR")
        return json_answer([{"message": message, "errorCode": code}], status)

    def too_many(self, window: Window, _policy: str) -> web.Response:
        response = self.error(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
        response.headers["Sforce-Limit-Info"] = f"api-usage={window.limit - window.remaining}/{window.limit}"
        return response

    def read(self, request: web.Request, body: bytes) -> list[Input]:
        """Read a call: its shape has to be right; what is wrong with one record is that record's failure."""
        if request.match_info["object"] != OBJECT or request.match_info["field"] != ID_FIELD:
            raise Refused(self.error(404, None, "The requested resource does not exist"))
        try:
            call = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise Refused(self.error(400, None, "Unexpected character")) from None
        records = call.get("records") if isinstance(call, dict) else None
        if not isinstance(records, list) or not records or not isinstance(call.get("allOrNone", False), bool):
            raise Refused(self.error(400, None, "records: a list is required"))
        if len(records) > MAX_RECORDS:
            # What its code is called is not documented; that it is refused is.
            raise Refused(self.error(400, "LIMIT_EXCEEDED", f"record limit reached: {MAX_RECORDS}"))
        times = Counter(one.get(ID_FIELD) for one in records if isinstance(one, dict))
        return [self._input(one, times) for one in records]

    def _input(self, one: Any, times: Counter[Any]) -> Input:  # noqa: ANN401  # JSON
        if not isinstance(one, dict) or not isinstance(one.get("attributes"), dict):
            raise Refused(self.error(400, None, "each record needs attributes"))
        fields = {name: value for name, value in one.items() if name != "attributes"}
        if not all(value is None or isinstance(value, str) for value in fields.values()):
            raise Refused(self.error(400, None, "Cannot deserialize instance of string"))
        if any(
            _is_moment(name) and value is not None and not _MOMENT.fullmatch(value) for name, value in fields.items()
        ):
            raise Refused(self.error(400, None, "Cannot deserialize instance of datetime from VALUE_STRING"))
        contact = fields.get(ID_FIELD) or ""
        values = {name: value or "" for name, value in fields.items()}
        refusal = _refusal(one["attributes"].get("type"), values, times[contact])
        return Input(contact, values.get(EVENT_FIELD, ""), values, refusal=refusal)

    def answer(self, _request: web.Request, verdicts: list[Verdict], _fault: Fault) -> web.Response:
        """Answer 200 with one result a record, in their order, whatever became of each."""
        return json_answer([_result(one) for one in verdicts])


def _is_moment(name: str) -> bool:
    return name.endswith("_At__c")


def _refusal(kind: object, values: dict[str, str], times: int) -> str | None:
    if kind != OBJECT:
        return "INVALID_TYPE"
    if "Id" in values or "id" in values:
        return "INVALID_FIELD_FOR_INSERT_UPDATE"
    if not values.get(ID_FIELD):
        return "MISSING_ARGUMENT"
    if times > 1:
        return "DUPLICATE_VALUE"
    if not all(name.endswith("__c") for name in values):
        return "INVALID_FIELD"
    return "STRING_TOO_LONG" if any(len(value) > _TEXT_CHARACTERS for value in values.values()) else None


def _result(one: Verdict) -> dict[str, object]:
    if one.contact:
        return {"id": f"a01{one.contact.id:0>12}AAA", "success": True, "errors": [], "created": one.new}
    error: dict[str, object] = {"statusCode": one.code, "message": "refused", "fields": []}
    return {"success": False, "errors": [error]}
