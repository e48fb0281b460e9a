"""An event as a row of `dial_result`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from schemas.mapping import NOTHING, FieldReader

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

_NUL = "\0"  # a text column cannot hold it; the record column does, as an escape
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # PostgreSQL's
_MICROSECOND = timedelta(microseconds=1)


class Rows:
    """Makes rows, with a reader for each merchant's own field names."""

    def __init__(self, merchants: Mapping[str, Merchant]) -> None:
        self._readers = {name: FieldReader(merchant) for name, merchant in merchants.items()}
        self._other = FieldReader(None)

    def row(self, event: DialResult) -> Row:
        """Return the event's values in the order of `COLUMNS`, as `Database` sends them.

        Times are PostgreSQL's own (microseconds since 2000), JSON columns the bytes that came.

        Raises:
            InvalidRecord: a mapped field says something that no reader can hold.
        """
        reader = self._readers.get(event.merchant, self._other)
        found = reader.decode(event)
        name, mobile, conclusion, called_at, _ = reader.fields(found)
        ext_vars, call_vars = found.ext_vars, found.call_vars
        return (
            event.event_id,
            event.merchant,
            event.task_id,
            event.record_id,
            (event.received_at - _EPOCH) // _MICROSECOND,
            event.source,
            None if name and _NUL in name else name,
            None if mobile and _NUL in mobile else mobile,
            None if conclusion and _NUL in conclusion else conclusion,
            None if called_at is None else (called_at - _EPOCH) // _MICROSECOND,
            None if ext_vars == NOTHING else ext_vars,
            None if call_vars == NOTHING else call_vars,
            event.result,
        )
