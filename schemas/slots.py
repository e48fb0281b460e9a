"""The payment time among a record's slots: two local times of the merchant's, as Blu's "slots" say them.

Source: Blu's pages print `['2024-08-15 07:00:00', '2024-08-15 12:00:00']` for a morning, equal ends for an exact time,
null where none was understood. They name no field: an object by slot names and a list of name and value are both read.
"""

from __future__ import annotations

from datetime import UTC
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from . import exact
from .mapping import NOTHING, clock_time
from .merchants import Fields, Merchant

if TYPE_CHECKING:
    from datetime import datetime, tzinfo


class PaymentTime(NamedTuple):
    """When the person means to pay: aware, UTC; and the two local times as they came."""

    begins_at: datetime
    ends_at: datetime
    begins_local: str
    ends_local: str


class _Slot(msgspec.Struct, gc=False):
    name: str
    value: msgspec.Raw = NOTHING


_LONGEST_BYTES = 128  # two times with offsets have under 80; what is kept below stays small
_interval = msgspec.json.Decoder(tuple[str, str])


class PaymentTimeReader:
    """Reads the payment time out of a merchant's slots."""

    def __init__(self, merchant: Merchant | None) -> None:
        names = (merchant.fields if merchant else Fields()).payment_time
        self._names = (names,) if isinstance(names, str) else names
        self._timezone: tzinfo = merchant.timezone if merchant else UTC
        places = {f"slot_{number}": name for number, name in enumerate(self._names)}
        self._places = tuple(places)
        self._by_name = msgspec.defstruct(
            "Slots", [(place, msgspec.Raw, NOTHING) for place in places], rename=places, gc=False
        )
        self._decode = msgspec.json.Decoder(self._by_name | list[_Slot] | None).decode

    def read(self, slots: msgspec.Raw) -> PaymentTime | None:
        """Return the first slot of its name that holds two times; None where there is none, or it cannot be read."""
        if slots is NOTHING:
            return None
        try:
            found = self._decode(slots)
        except exact.FAILURES:
            return None
        if isinstance(found, list):
            values = {slot.name: slot.value for slot in found}
            found = self._by_name(*(values.get(name, NOTHING) for name in self._names))
        for place in self._places if found else ():
            value = bytes(getattr(found, place))
            if len(value) <= _LONGEST_BYTES and (interval := _read(value, self._timezone)):
                return interval
        return None


@lru_cache(maxsize=4_096)  # many mean the same morning
def _read(value: bytes, timezone: tzinfo) -> PaymentTime | None:
    try:
        begins, ends = _interval.decode(value)
        return PaymentTime(clock_time(begins, timezone), clock_time(ends, timezone), begins, ends)
    except (*exact.FAILURES, ValueError, OverflowError):
        return None
