"""An event as a row of `dial_result`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from schemas.mapping import FieldReader

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


class _Variables(msgspec.Struct, rename="camel", gc=False):
    """The two as they stand in the record: decoding and encoding them again could change a digit's form."""

    ext_vars: msgspec.Raw = msgspec.Raw(b"null")
    call_vars: msgspec.Raw = msgspec.Raw(b"null")


_variables = msgspec.json.Decoder(_Variables)


class Rows:
    """Makes rows, with a reader for each merchant's own field names."""

    def __init__(self, merchants: Mapping[str, Merchant]) -> None:
        self._readers = {name: FieldReader(merchant) for name, merchant in merchants.items()}
        self._other = FieldReader(None)

    def row(self, event: DialResult) -> Row:
        """Return the event's values in the order of `COLUMNS`; the JSON ones as the bytes that came.

        Raises:
            InvalidRecord: a mapped field says something that no reader can hold.
        """
        name, mobile, conclusion, called_at, _ = self._readers.get(event.merchant, self._other).read(event)
        variables = _variables.decode(event.result)
        return (
            event.event_id,
            event.merchant,
            event.task_id,
            event.record_id,
            event.received_at,
            event.source,
            _text(name),
            _text(mobile),
            _text(conclusion),
            called_at,
            _json(variables.ext_vars),
            _json(variables.call_vars),
            event.result,
        )


def _text(value: str | None) -> str | None:
    """Leave out what a text column cannot hold; the record column keeps it as an escape."""
    return None if value is not None and "\0" in value else value


def _json(value: msgspec.Raw) -> msgspec.Raw | None:
    return None if bytes(value) == b"null" else value
