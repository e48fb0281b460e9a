"""An event as a row of the table, and rows as Arrow. No name, number or variable gets in."""

from __future__ import annotations

import hmac
import math
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from arro3.core import Array, DataType, Field, Schema, Table

from schemas.mapping import Mapped, mapped

from .conclusions import group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from schemas.event import DialResult
    from schemas.merchants import Merchant

_TEXT = DataType.string()
_TIME = DataType.timestamp("us", tz="UTC")  # one without a zone would raise the table's protocol to 3/7
_DATE = DataType.date32()
_MADE_AS = {_TIME: DataType.int64(), _DATE: DataType.int32()}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY_US = 86_400_000_000
_FIRST_DAY = (date.min - _EPOCH.date()).days
_LAST_DAY = (date.max - _EPOCH.date()).days

SCHEMA = Schema(
    [
        Field("event_id", _TEXT, nullable=False),
        Field("merchant", _TEXT, nullable=False),
        Field("task_id", _TEXT, nullable=False),
        Field("record_id", _TEXT, nullable=False),
        Field("received_at", _TIME, nullable=False),
        Field("date", _DATE, nullable=False),
        Field("source", _TEXT, nullable=False),
        Field("conclusion", _TEXT, nullable=True),
        Field("conclusion_group", _TEXT, nullable=True),
        Field("called_at", _TIME, nullable=True),
        Field("duration_s", DataType.float64(), nullable=True),
        Field("person", _TEXT, nullable=True),
    ]
)


def row(event: DialResult, merchants: Mapping[str, Merchant], key: bytes) -> tuple[Any, ...]:
    """Return the event's values in the order of `SCHEMA`."""
    merchant = merchants.get(event.merchant)
    seen = mapped(event.record(), merchant)
    received_at = microseconds(event.received_at)
    return (
        event.event_id,
        event.merchant,
        event.task_id,
        event.record_id,
        received_at,
        received_at // _DAY_US,
        event.source,
        seen.conclusion,
        group(seen.conclusion, merchant),
        None if seen.called_at is None else microseconds(seen.called_at),
        _duration(seen),
        person(seen, key),
    )


def table(rows: Sequence[tuple[Any, ...]]) -> Table:
    """Return the rows as Arrow."""
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    return Table([_array(values, SCHEMA.field(place).type) for place, values in enumerate(columns)], schema=SCHEMA)


def person(seen: Mapped, key: bytes) -> str | None:
    """Return the pseudonym: the same for the same number (else the same name), and of no use without the key."""
    known = seen.mobile or seen.name
    return hmac.digest(key, known.encode(errors="replace"), "sha256").hex() if known else None


def microseconds(moment: datetime) -> int:
    """Return the time since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def day(moment: int, later: int = 0) -> str:
    """Return the UTC day of microseconds since 1970, or one so many days later, for SQL: within what SQL can say."""
    return (_EPOCH.date() + timedelta(days=min(max(moment // _DAY_US + later, _FIRST_DAY), _LAST_DAY))).isoformat()


def _array(values: Sequence[Any], kind: DataType) -> Array:
    made_as = next((simple for typed, simple in _MADE_AS.items() if typed == kind), None)
    return Array(values, type=kind) if made_as is None else Array(values, type=made_as).cast(kind)


def _duration(seen: Mapped) -> float | None:
    seconds = None if seen.duration_s is None else float(seen.duration_s)
    return seconds if seconds is not None and math.isfinite(seconds) else None
