"""What the sinks read out of a record, by the merchant's names; and which of two results is the newer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from .event import RECONCILE, DialResult
from .merchants import Fields, Merchant

if TYPE_CHECKING:
    from datetime import tzinfo

_DEFAULT_FIELDS = Fields()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_LIMIT = 10**11  # as seconds the year 5138, as milliseconds 1973: no call was made in either


class Mapped(NamedTuple):
    """The documented fields of a record; None where absent or unreadable, never an error."""

    name: str | None
    mobile: str | None
    conclusion: str | None
    called_at: datetime | None  # aware, UTC
    duration_s: Decimal | None
    ext_vars: Any
    call_vars: Any


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


def newest_key(event: DialResult, called_at: datetime | None) -> tuple[int, datetime, str]:
    """Return what to compare: the greater is the newer. The one rule for CRM, `latest_result` and tests.

    Call time; else when it was first received; tie by event id. One reconciled without call time is older than all.
    """
    known = called_at is not None or event.source != RECONCILE
    return int(known), called_at or event.received_at, event.event_id


def _first(record: dict[str, Any], names: tuple[str, ...] | str) -> Any:  # noqa: ANN401
    for name in (names,) if isinstance(names, str) else names:
        if (value := record.get(name)) is not None:
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
            moment = datetime.fromisoformat(value.strip())
            return (moment if moment.tzinfo else moment.replace(tzinfo=timezone)).astimezone(UTC)
        number = _number(value)
        return None if number is None else _since_1970(number)
    except (ValueError, ArithmeticError):  # OverflowError, and decimal's own
        return None


def _since_1970(number: Decimal) -> datetime | None:
    seconds = float(number if abs(number) < _SECONDS_LIMIT else number / 1000)
    return _EPOCH + timedelta(seconds=seconds) if seconds > 0 else None
