"""Decides, without touching anything, what is to be sent of a batch: at most one item a contact, its newest.

Besides the batch there may be results whose call was begun by somebody who never learned its outcome (`pending`: a
killed process, a lost reply). They count as if they were in the batch, with the values that were sent then: otherwise a
batch that comes back cut differently would send an older result over a newer one, or the newer one twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .mapping import Item

_rank = attrgetter("rank")


@dataclass(frozen=True)
class Known:
    """What the ledger holds of the batch's events and contacts."""

    settled: frozenset[str] = frozenset()
    """Events of the batch that are done or superseded."""
    newest: dict[str, Item] = field(default_factory=dict)
    """The newest done item of a contact; without properties if the ledger no longer holds them."""
    pending: tuple[Item, ...] = ()


@dataclass(frozen=True)
class Sending:
    """The item to send for one contact, and the older ones that are superseded once the CRM has it."""

    item: Item
    older: tuple[Item, ...] = ()
    again: bool = False
    """The item was done before; it is sent again because a pending older one may have come in behind it."""


@dataclass(frozen=True)
class Plan:
    """What to send, and what the ledger supersedes already."""

    sendings: tuple[Sending, ...]
    superseded: tuple[Item, ...]


def first_seen(items: Iterable[Item]) -> dict[str, Item]:
    """Return each event once, by id: of repeats the one that was received first."""
    found: dict[str, Item] = {}
    for one in items:
        known = found.get(one.event_id)
        found[one.event_id] = min(known, one, key=_rank) if known else one
    return found


def plan(items: Iterable[Item], known: Known) -> Plan:
    """Decide what to send of these items, each event at most once among them."""
    sendings: list[Sending] = []
    superseded: list[Item] = []
    for contact, waiting in _by_contact(items, known).items():
        *older, top = sorted(waiting, key=_rank)
        done = known.newest.get(contact)
        if done is None or done.rank < top.rank:
            sendings.append(Sending(top, tuple(older)))
        elif done.properties and (late := [one for one in waiting if one in known.pending]):
            repair = done._replace(repairs=max(late, key=_rank).event_id)
            sendings.append(Sending(repair, tuple(waiting), again=True))
        else:
            superseded += waiting
    return Plan(tuple(sendings), tuple(superseded))


def _by_contact(items: Iterable[Item], known: Known) -> dict[str, list[Item]]:
    waiting = {one.event_id: one for one in items if one.event_id not in known.settled}
    waiting |= {one.event_id: one for one in known.pending}
    contacts: dict[str, list[Item]] = {}
    for one in waiting.values():
        contacts.setdefault(one.contact, []).append(one)
    return contacts
