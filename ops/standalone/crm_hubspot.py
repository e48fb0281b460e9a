"""HubSpot's batch upsert, as strict as HubSpot documents it; `consumers/sinks/crm/hubspot.py` cites the pages."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson

from ops.standalone.crm_desk import Input, Refused, Verdict, json_answer
from ops.standalone.crm_store import shown

if TYPE_CHECKING:
    from aiohttp import web

    from ops.standalone.crm_faults import Fault
    from ops.standalone.crm_window import Window

MAX_INPUTS = 100
ID_PROPERTY = "dial_contact"
EVENT_PROPERTY = "dial_result_event_id"
_CATEGORIES = {401: "INVALID_AUTHENTICATION", 500: "INTERNAL_ERROR"}


class HubSpotApi:
    """A vendor of the desk."""

    def error(self, status: int, category: str | None, message: str) -> web.Response:
        category = category or _CATEGORIES.get(status, "VALIDATION_ERROR")
        return json_answer(
            {"status": "error", "message": message, "category": category, "correlationId": str(uuid.uuid4())}, status
        )

    def too_many(self, window: Window, policy: str) -> web.Response:
        body = {
            "status": "error",
            "message": f"You have reached your {policy.lower()} limit.",
            "errorType": "RATE_LIMIT",
            "correlationId": str(uuid.uuid4()),
            "policyName": policy,
        }
        response = json_answer(body, 429)
        response.headers["X-HubSpot-RateLimit-Max"] = str(window.limit)
        response.headers["X-HubSpot-RateLimit-Remaining"] = str(window.remaining)
        response.headers["X-HubSpot-RateLimit-Interval-Milliseconds"] = f"{window.window_s * 1000:.0f}"
        return response

    def read(self, _request: web.Request, body: bytes) -> list[Input]:
        """Read a batch: 1 to 100 inputs, ids unique in the call, values strings."""
        try:
            batch = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise self._refused("Invalid input JSON") from None
        inputs = batch.get("inputs") if isinstance(batch, dict) else None
        if not isinstance(inputs, list) or not inputs:
            raise self._refused("inputs: a list of objects is required")
        if len(inputs) > MAX_INPUTS:
            raise self._refused(f"Batch size {len(inputs)} exceeds the limit of {MAX_INPUTS}")
        read = [self._input(one) for one in inputs]
        repeated = [contact for contact, count in Counter(one.contact for one in read).items() if count > 1]
        if repeated:
            raise self._refused(f"Duplicate IDs found in batch input: {repeated}. IDs must be unique")
        return read

    def _input(self, one: Any) -> Input:  # noqa: ANN401  # JSON
        if not isinstance(one, dict) or not isinstance(one.get("id"), str) or not one["id"]:
            raise self._refused("inputs: each needs an id, a string")
        if one.get("idProperty") != ID_PROPERTY:
            raise self._refused("Unable to perform upsert by a property that is not unique")
        properties, trace_id = one.get("properties"), one.get("objectWriteTraceId")
        if not isinstance(properties, dict) or not all(isinstance(value, str) for value in properties.values()):
            raise self._refused("properties: an object of strings is required")
        if properties.get(ID_PROPERTY, one["id"]) != one["id"]:
            raise self._refused(f"{ID_PROPERTY}: differs from the id")
        trace_id = trace_id if isinstance(trace_id, str) else None
        event_id = properties.get(EVENT_PROPERTY) or trace_id or ""
        return Input(one["id"], event_id, properties | {ID_PROPERTY: one["id"]}, trace_id)

    def _refused(self, message: str) -> Refused:
        return Refused(self.error(400, None, message))

    def answer(self, request: web.Request, verdicts: list[Verdict], fault: Fault) -> web.Response:
        """Answer 200; partial failures 207 by v3 and 200 by the dated API."""
        results = [_result(one) for one in verdicts if one.contact]
        errors = [_error(one, fault) for one in verdicts if one.code]
        body: dict[str, object] = {"status": "COMPLETE", "results": results}
        if not errors:
            return json_answer(body)
        status = fault.errors_status or (207 if request.match_info["version"].startswith("v") else 200)
        return json_answer(body | {"numErrors": len(errors), "errors": errors}, status)


def _result(one: Verdict) -> dict[str, object]:
    trace = {"objectWriteTraceId": one.given.trace_id} if one.given.trace_id else {}
    return {**(shown(one.contact) if one.contact else {}), "new": one.new, **trace}


def _error(one: Verdict, fault: Fault) -> dict[str, object]:
    names = {"objectWriteTraceId": [one.given.trace_id], "ids": [one.given.contact]}
    return {
        "status": "error",
        "category": one.code,
        "message": "Property values were not valid",
        "context": {} if fault.anonymous else names,
    }
