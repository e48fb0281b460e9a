"""A batch upsert as HubSpot reads it: what makes it refuse one as a whole."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import orjson

MAX_INPUTS = 100
ID_PROPERTY = "dial_contact"
EVENT_PROPERTY = "dial_result_event_id"


class RefusedBatch(Exception):  # noqa: N818  # an answer
    """The whole batch is answered 400; the message is HubSpot's kind of explanation."""


class Input(NamedTuple):
    contact: str
    trace_id: str | None
    properties: dict[str, str]

    @property
    def event_id(self) -> str:
        """The event that these values come from."""
        return self.properties.get(EVENT_PROPERTY) or self.trace_id or ""


def read_batch(body: bytes) -> list[Input]:
    """Read a request's body. Raises RefusedBatch."""
    try:
        batch = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedBatch("Invalid input JSON") from error
    inputs = batch.get("inputs") if isinstance(batch, dict) else None
    if not isinstance(inputs, list) or not inputs:
        raise RefusedBatch("inputs: a list of objects is required")
    if len(inputs) > MAX_INPUTS:
        raise RefusedBatch(f"Batch size {len(inputs)} exceeds the limit of {MAX_INPUTS}")
    read = [_input(one) for one in inputs]
    repeated = [contact for contact, count in Counter(one.contact for one in read).items() if count > 1]
    if repeated:
        raise RefusedBatch(f"Duplicate IDs found in batch input: {repeated}. IDs must be unique")
    return read


def _input(one: Any) -> Input:  # noqa: ANN401  # JSON
    if not isinstance(one, dict) or not isinstance(one.get("id"), str) or not one["id"]:
        raise RefusedBatch("inputs: each needs an id, a string")
    if one.get("idProperty") != ID_PROPERTY:
        raise RefusedBatch("Unable to perform upsert by a property that is not unique")
    properties, trace_id = one.get("properties"), one.get("objectWriteTraceId")
    if not isinstance(properties, dict) or not all(isinstance(value, str) for value in properties.values()):
        raise RefusedBatch("properties: an object of strings is required")
    if properties.get(ID_PROPERTY, one["id"]) != one["id"]:
        raise RefusedBatch(f"{ID_PROPERTY}: differs from the id")
    return Input(one["id"], trace_id if isinstance(trace_id, str) else None, properties | {ID_PROPERTY: one["id"]})
