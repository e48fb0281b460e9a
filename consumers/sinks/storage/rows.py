"""An event as a row of `dial_result`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from schemas.mapping import mapped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.event import DialResult
    from schemas.merchants import Merchant

COLUMNS = (
    "event_id",
    "merchant",
    "task_id",
    "record_id",
    "received_at",
    "source",
    "name",
    "mobile",
    "conclusion",
    "called_at",
    "ext_vars",
    "call_vars",
    "record",
)

Row = tuple[Any, ...]


class _Variables(msgspec.Struct, rename="camel"):
    """The two as they stand in the record: decoding and encoding them again could change a digit's form."""

    ext_vars: msgspec.Raw = msgspec.Raw(b"null")
    call_vars: msgspec.Raw = msgspec.Raw(b"null")


_variables = msgspec.json.Decoder(_Variables)


def row(event: DialResult, merchants: Mapping[str, Merchant]) -> Row:
    """Return the event's values in the order of `COLUMNS`."""
    seen = mapped(event.record(), merchants.get(event.merchant))
    variables = _variables.decode(event.result)
    return (
        event.event_id,
        event.merchant,
        event.task_id,
        event.record_id,
        event.received_at,
        event.source,
        _text(seen.name),
        _text(seen.mobile),
        _text(seen.conclusion),
        seen.called_at,
        _json(variables.ext_vars),
        _json(variables.call_vars),
        str(event.result, "utf-8"),
    )


def _text(value: str | None) -> str | None:
    """Leave out what a text column cannot hold; the record column keeps it as an escape."""
    return None if value is not None and "\0" in value else value


def _json(value: msgspec.Raw) -> str | None:
    text = str(value, "utf-8")
    return None if text == "null" else text
