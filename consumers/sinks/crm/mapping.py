"""From an event to what a CRM is sent: one contact, named by the merchant's own record id, and its newest result."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from schemas.mapping import mapped, newest_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from schemas.event import DialResult
    from schemas.merchants import Merchant

ID_PROPERTY = "dial_contact"
"""The unique property that names a contact: `{merchant}:{record_id}`."""

NAMES: Mapping[str, str] = {
    "event_id": "dial_result_event_id",
    "task_id": "dial_result_task_id",
    "name": "dial_result_name",
    # A masked mobile (138****0101) is no phone number: a text property, never the CRM's phone.
    "mobile": "dial_result_mobile",
    "conclusion": "dial_result_conclusion",
    "called_at": "dial_result_called_at",
    "received_at": "dial_result_received_at",
}
"""Our field to the CRM's property. What a property is called may become a setting; what there is stands here."""


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


def item(event: DialResult, merchant: Merchant | None, names: Mapping[str, str] = NAMES) -> Item:
    """Make the item of an event. An absent field is sent empty, which clears what an older result left there."""
    fields = mapped(event.record(), merchant)
    known, at, event_id = newest_key(event, fields.called_at)
    values = {
        "event_id": event_id,
        "task_id": event.task_id,
        "name": fields.name or "",
        "mobile": fields.mobile or "",
        "conclusion": fields.conclusion or "",
        "called_at": _moment(fields.called_at) if fields.called_at else "",
        "received_at": _moment(event.received_at),
    }
    properties = {names[field]: value for field, value in values.items() if field in names}
    return Item(event_id, event.key.decode(), Rank(bool(known), at, event_id), properties)


def _moment(at: datetime) -> str:
    """Write a time as HubSpot reads it: `2026-11-24T03:14:15.926Z`."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
