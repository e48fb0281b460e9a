"""What the sinks read out of a record, by the merchant's names; and which of two results is the newer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from . import exact
from .event import RECONCILE, DialResult, refusal
from .merchants import Fields, Merchant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

_DEFAULT_FIELDS = Fields()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_READY = (str, type(None))
NOTHING = msgspec.Raw(b"null")
"""What stands for variables and slots that a record does not have."""
_SECONDS_LIMIT = 10**11  # as seconds the year 5138, as milliseconds 1973: no call was made in either


class Mapped(NamedTuple):
    """The documented fields of a record; None where absent or unreadable, never an error."""

    name: str | None
    mobile: str | None
    conclusion: str | None
    called_at: datetime | None  # aware, UTC
    duration_s: Decimal | None
    ext_vars: Any = None
    call_vars: Any = None


def mapped(record: dict[str, Any], merchant: Merchant | None) -> Mapped:
    """Read the documented fields; `merchant` says how its own are called and in which time zone its times are."""
    fields = merchant.fields if merchant else _DEFAULT_FIELDS
    timezone: tzinfo = merchant.timezone if merchant else UTC
    return Mapped(
        name=_text(record.get("name")),
        mobile=_text(record.get("mobile")),
        conclusion=_text(_first(record, fields.conclusion)),
        called_at=_moment(_first(record, fields.called_at), timezone),
        duration_s=_number(_first(record, fields.duration_s)),
        ext_vars=record.get("extVars"),
        call_vars=record.get("callVars"),
    )


Read = tuple[str | None, str | None, str | None, datetime | None, Decimal | int | None]
"""`name`, `mobile`, `conclusion`, `called_at` and `duration_s` of `Mapped`; a whole duration may be an `int`."""


class FieldReader:
    """Reads what `mapped` reads straight from a record's JSON, in a quarter of the time; the two variables undecoded.

    `decode` once, then `fields` of it. `ext_vars`, `call_vars` and `slots` are there as the JSON that came; so no field
    can be mapped to one of the three themselves.
    """

    def __init__(self, merchant: Merchant | None) -> None:
        fields = merchant.fields if merchant else _DEFAULT_FIELDS
        self._timezone: tzinfo = merchant.timezone if merchant else UTC
        wanted = [("name",), ("mobile",), *map(_names, (fields.conclusion, fields.called_at, fields.duration_s))]
        places = {name: f"found_{place}" for place, name in enumerate(dict.fromkeys(chain(*wanted)))}
        undecoded = {"extVars": "ext_vars", "callVars": "call_vars", fields.slots: "slots"}
        places |= undecoded
        record_type = msgspec.defstruct(
            "Found",
            [
                (place, msgspec.Raw, NOTHING) if name in undecoded else (place, Any, None)
                for name, place in places.items()
            ],
            rename={place: name for name, place in places.items()},
            gc=False,
        )
        self._decode = msgspec.json.Decoder(record_type, float_hook=Decimal).decode
        self._first = attrgetter(*(places[names[0]] for names in wanted))
        self._further = [[places[name] for name in names[1:]] for names in wanted[2:]]

    def read(self, event: DialResult) -> Read:
        """Return the fields. Raises InvalidRecord as `decode` does."""
        return self.fields(self.decode(event))

    def decode(self, event: DialResult) -> Any:  # noqa: ANN401  # a type made for this merchant
        """Return what `fields` reads, with `ext_vars`, `call_vars` and `slots` as `msgspec.Raw`.

        Raises:
            InvalidRecord: one of the fields is a number that nobody can hold.
        """
        try:
            return self._decode(event.result)
        except exact.FAILURES as error:
            raise refusal(error) from None

    def fields(self, record: Any) -> Read:  # noqa: ANN401
        """Return the fields of what `decode` gave."""
        name, mobile, conclusion, called_at, duration_s = self._first(record)
        if conclusion is None:
            conclusion = _first_found(record, self._further[0])
        if called_at is None:
            called_at = _first_found(record, self._further[1])
        if duration_s is None:
            duration_s = _first_found(record, self._further[2])
        return (
            name if name.__class__ in _READY else _text(name),
            mobile if mobile.__class__ in _READY else _text(mobile),
            conclusion if conclusion.__class__ in _READY else _text(conclusion),
            None if called_at is None else _moment(called_at, self._timezone),
            duration_s if duration_s is None or duration_s.__class__ is int else _number(duration_s),
        )


def newest_key(event: DialResult, called_at: datetime | None) -> tuple[int, datetime, str]:
    """Return what to compare: the greater is the newer. The one rule for CRM, `latest_result` and tests.

    Call time; else when it was first received; tie by event id. One reconciled without call time is older than all.
    """
    known = called_at is not None or event.source != RECONCILE
    return int(known), called_at or event.received_at, event.event_id


def _names(names: tuple[str, ...] | str) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _first(record: dict[str, Any], names: tuple[str, ...] | str) -> Any:  # noqa: ANN401
    for name in _names(names):
        if (value := record.get(name)) is not None:
            return value
    return None


def _first_found(record: object, places: Sequence[str]) -> Any:  # noqa: ANN401
    for place in places:
        if (value := getattr(record, place)) is not None:
            return value
    return None


def _text(value: Any) -> str | None:  # noqa: ANN401
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else None


def _number(value: Any) -> Decimal | None:  # noqa: ANN401
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    try:
        number = Decimal(value)
    except ArithmeticError:
        return None
    return number if number.is_finite() else None


def _moment(value: Any, timezone: tzinfo) -> datetime | None:  # noqa: ANN401
    """Read ISO 8601, `2024-08-15 07:00:00` (local to the merchant), or seconds or milliseconds since 1970."""
    try:
        if isinstance(value, str) and not value.isdecimal():
            return clock_time(value, timezone)
        number = _number(value)
        return None if number is None else _since_1970(number)
    except (ValueError, ArithmeticError):  # OverflowError, and decimal's own
        return None


@lru_cache(maxsize=4_096)  # of results that come together many are of the same second
def clock_time(value: str, timezone: tzinfo) -> datetime:
    """Read ISO 8601 or `2024-08-15 07:00:00`, local to the merchant where it names no offset; return it in UTC.

    Raises:
        ValueError, OverflowError: it is no such time.
    """
    moment = datetime.fromisoformat(value.strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone)).astimezone(UTC)


def _since_1970(number: Decimal) -> datetime | None:
    seconds = float(number if abs(number) < _SECONDS_LIMIT else number / 1000)
    return _EPOCH + timedelta(seconds=seconds) if seconds > 0 else None
