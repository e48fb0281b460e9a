"""An event as a row of the table, and rows as Arrow. No name, number or variable gets in."""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from arro3.core import Array, DataType, Field, Schema, Table

from schemas.mapping import FieldReader
from schemas.slots import PaymentTimeReader

from .conclusions import OTHER, groups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from schemas.event import DialResult
    from schemas.merchants import Merchant
    from schemas.slots import PaymentTime

    from .memory import Numbers

_TEXT = DataType.string()
_TIME = DataType.timestamp("us", tz="UTC")  # one without a zone would raise the table's protocol to 3/7
_DATE = DataType.date32()
_MADE_AS = {_TIME: DataType.int64(), _DATE: DataType.int32()}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BLOCK_BYTES = 64  # of SHA-256
DAY_US = 86_400_000_000
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
        # Columns are added at the end, and may be null: `Lake` gives them to a table that an older version made.
        Field("payment_from", _TIME, nullable=True),
        Field("payment_to", _TIME, nullable=True),
        Field("payment_from_local", _TEXT, nullable=True),
        Field("payment_to_local", _TEXT, nullable=True),
    ]
)


class Rows:
    """Makes rows, column by column: no object of Python's for a row."""

    def __init__(self, merchants: Mapping[str, Merchant], key: bytes) -> None:
        self._known = {name: _Reading(merchant) for name, merchant in merchants.items()}
        self._strange = _Reading(None)
        self._pseudonym = Pseudonym(key)

    def table(self, events: Sequence[DialResult], received_at: Numbers) -> Table:
        """Return the events as Arrow, with the columns of `SCHEMA`; `received_at` in microseconds.

        Raises:
            InvalidRecord: an event says a number that nobody can hold.
        """
        merchants = [event.merchant for event in events]
        known = [self._known.get(merchant, self._strange) for merchant in merchants]
        found = [reading.decode(event) for reading, event in zip(known, events, strict=True)]
        seen = [reading.fields(one) for reading, one in zip(known, found, strict=True)]
        names, mobiles, conclusions, called_at, durations = zip(*seen, strict=True) if seen else [()] * 5
        columns: list[Sequence[Any]] = [
            [event.event_id for event in events],
            merchants,
            [event.task_id for event in events],
            [event.record_id for event in events],
            received_at.tolist(),
            (received_at // DAY_US).tolist(),
            [event.source for event in events],
            conclusions,
            [
                None if code is None else reading.groups.get(code, OTHER)
                for code, reading in zip(conclusions, known, strict=True)
            ],
            [None if at is None else _microseconds(at) for at in called_at],
            [None if duration is None else _float(duration) for duration in durations],
            [self._pseudonym(mobile or name) for mobile, name in zip(mobiles, names, strict=True)],
            *_payment_times([reading.payment_time(one.slots) for reading, one in zip(known, found, strict=True)]),
        ]
        return Table([array(values, SCHEMA.field(at).type) for at, values in enumerate(columns)], schema=SCHEMA)


class _Reading:
    """How one merchant's records are read."""

    def __init__(self, merchant: Merchant | None) -> None:
        reader = FieldReader(merchant)
        self.decode, self.fields, self.groups = reader.decode, reader.fields, groups(merchant)
        self.payment_time = PaymentTimeReader(merchant).read


def _payment_times(found: Sequence[PaymentTime | None]) -> Sequence[Sequence[Any]]:
    """Return the four columns of it."""
    return list(zip(*map(_payment_row, found), strict=True)) if found else [()] * 4


@lru_cache(maxsize=4_096)
def _payment_row(found: PaymentTime | None) -> tuple[int | None, int | None, str | None, str | None]:
    if found is None:
        return None, None, None, None
    return microseconds(found.begins_at), microseconds(found.ends_at), found.begins_local, found.ends_local


class Pseudonym:
    """HMAC-SHA-256 (RFC 2104), with the key's two blocks hashed once: a third of the time of `hmac.digest`."""

    def __init__(self, key: bytes) -> None:
        block = (key if len(key) <= _BLOCK_BYTES else hashlib.sha256(key).digest()).ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def __call__(self, known: str | None) -> str | None:
        """Return the same for the same number or name; of no use without the key."""
        if not known:
            return None
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(known.encode(errors="replace"))
        outer.update(inner.digest())
        return outer.hexdigest()


def microseconds(moment: datetime) -> int:
    """Return the time since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


_microseconds = lru_cache(maxsize=4_096)(microseconds)  # calls are known to the second, and many end in the same


def day(number: int, later: int = 0) -> str:
    """Return the day of that number since 1970, or one so many days later, for SQL: within what SQL can say."""
    return (_EPOCH.date() + timedelta(days=min(max(number + later, _FIRST_DAY), _LAST_DAY))).isoformat()


def array(values: Sequence[Any], kind: DataType) -> Array:
    """Return a column of one of the types of `SCHEMA`; a time in microseconds since 1970, a date in days."""
    made_as = next((simple for typed, simple in _MADE_AS.items() if typed == kind), None)
    return Array(values, type=kind) if made_as is None else Array(values, type=made_as).cast(kind)


def _float(number: Decimal | int) -> float | None:
    try:
        found = float(number)
    except OverflowError:  # of a large `int`; a large `Decimal` gives infinity
        return None
    return found if math.isfinite(found) else None
