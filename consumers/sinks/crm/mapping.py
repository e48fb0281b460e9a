"""From an event to what a CRM is sent: one contact, named by the merchant's own record id, and its newest result."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from schemas.exact import canonical
from schemas.mapping import mapped, newest_key

if TYPE_CHECKING:
    from datetime import datetime

    from schemas.event import DialResult
    from schemas.mapping import Mapped
    from schemas.merchants import Merchant

    from .field_map import FieldMap


class Rank(NamedTuple):
    """The parts of `schemas.mapping.newest_key`: the greater is the newer."""

    known: bool
    at: datetime
    event_id: str


class Item(NamedTuple):
    """One event, ready to be sent. `properties` are what the CRM is to hold, without the id property."""

    event_id: str
    contact: str
    rank: Rank
    properties: dict[str, str]
    repairs: str = ""
    """The event whose late call this one is sent again to undo; empty for the first time."""


def item(event: DialResult, merchant: Merchant | None, names: FieldMap) -> Item:
    """Make the item of an event. An absent field is sent empty, which clears what an older result left there."""
    record = event.record()
    fields = mapped(record, merchant)
    known, at, event_id = newest_key(event, fields.called_at)
    values = _documented(event, fields, names)
    properties = {
        theirs: values[ours] if ours in values else _text(_at(record, ours)) for ours, theirs in names.fields.items()
    }
    return Item(event_id, event.key.decode(), Rank(bool(known), at, event_id), properties)


def _documented(event: DialResult, fields: Mapped, names: FieldMap) -> dict[str, str]:
    return {
        "event_id": event.event_id,
        "merchant": event.merchant,
        "task_id": event.task_id,
        "record_id": event.record_id,
        "received_at": _moment(event.received_at),
        "source": event.source,
        "name": fields.name or "",
        "mobile": fields.mobile or "",
        "conclusion": names.conclusion(event.merchant, fields.conclusion or ""),
        "called_at": _moment(fields.called_at) if fields.called_at else "",
        "duration_s": "" if fields.duration_s is None else str(fields.duration_s),
    }


def _at(record: dict[str, Any], path: str) -> Any:  # noqa: ANN401  # JSON
    """Return what stands at `record.a.b`, None if nothing does."""
    found: Any = record
    for key in path.split(".")[1:]:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _text(value: Any) -> str:  # noqa: ANN401  # JSON
    """Write any value as text: objects and lists as JSON, no digit changed."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value) if isinstance(value, int | Decimal) else _json(value)


def _json(value: Any) -> str:  # noqa: ANN401  # JSON
    return canonical(value).decode()


def _moment(at: datetime) -> str:
    """Write a time as HubSpot and Salesforce read it: `2026-11-24T03:14:15.926Z`."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
