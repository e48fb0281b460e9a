"""Compares what was promised with what arrived: the ledger on one side, the three sinks on the other."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from schemas.event import DialResult
from schemas.mapping import newest_key

from .places import PlaceAway

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .ledger import Ledger
    from .places import Effect, Stored

PLACES = STORAGE, ANALYTICS, CONTACTS, EFFECTS = ("PostgreSQL", "Delta table", "CRM contacts", "CRM effects")
_NO_RECORD = msgspec.Raw(b"{}")  # which result is the newer does not hang on what else it says


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one place holds of `expected` things; the lists hold ids, and `away` says why nobody could look."""

    place: str
    expected: int
    right: int = 0
    missing: tuple[str, ...] = ()  # not there; of a contact: not in its newest state
    extra: tuple[str, ...] = ()  # there, and nobody posted it
    doubled: tuple[str, ...] = ()  # there more than once
    away: str | None = None

    @property
    def good(self) -> bool:
        """Whether all is there, and nothing else."""
        return not (self.missing or self.extra or self.doubled or self.away)


class Sinks(Protocol):
    """Where to look; `places.Sinks` looks at those of a running `up`. Every method raises `PlaceAway`."""

    async def stored(self, merchant: str, tasks: Iterable[str]) -> list[Stored]:
        """Return the rows of these tasks."""

    async def analysed(self, merchant: str, tasks: Iterable[str]) -> Counter[str]:
        """Return how often each event of these tasks is there."""

    async def effects(self) -> list[Effect]:
        """Return all effects."""

    async def states(self, contacts: Iterable[str]) -> dict[str, str | None]:
        """Return the event that each contact shows."""


class Comparison:
    """Compares one ledger with the sinks, as often as asked."""

    def __init__(self, ledger: Ledger, sinks: Sinks) -> None:
        self._merchant = ledger.merchant
        self._known = ledger.entries
        self._promised = [entry.event_id for entry in ledger.promised()]
        self._contacts = {entry.record_id for entry in ledger.promised()}
        self._posted = {f"{ledger.merchant}:{entry.record_id}" for entry in ledger.entries.values()}
        self._tasks = {entry.task_id for entry in ledger.entries.values()}
        self._sinks = sinks

    async def look(self, *, at_contacts: bool) -> list[Verdict]:
        """Look once. Each contact itself is asked for only if `at_contacts`; else its last effect has to do."""
        return [await self._storage(), await self._analytics(), *await self._crm_verdicts(at_contacts=at_contacts)]

    async def _storage(self) -> Verdict:
        try:
            return self._each_once(STORAGE, Counter(row.event_id for row in await self._rows()))
        except PlaceAway as away:
            return Verdict(STORAGE, len(self._promised), away=f"{away}")

    async def _analytics(self) -> Verdict:
        try:
            return self._each_once(ANALYTICS, await self._sinks.analysed(self._merchant, self._tasks))
        except PlaceAway as away:
            return Verdict(ANALYTICS, len(self._promised), away=f"{away}")

    async def _crm_verdicts(self, *, at_contacts: bool) -> tuple[Verdict, Verdict]:
        try:
            effects = [effect for effect in await self._sinks.effects() if effect.contact in self._posted]
            newest = self._newest(await self._rows())
            shown = await self._shown(effects, newest, at_contacts=at_contacts)
        except PlaceAway as away:
            count = len(self._contacts)
            return Verdict(CONTACTS, count, away=f"{away}"), Verdict(EFFECTS, count, away=f"{away}")
        return self._in_newest_state(newest, shown), self._at_most_once(effects)

    async def _rows(self) -> list[Stored]:
        return await self._sinks.stored(self._merchant, self._tasks)

    def _each_once(self, place: str, found: Counter[str]) -> Verdict:
        missing = tuple(event for event in self._promised if event not in found)
        extra = tuple(event for event in found if event not in self._known)
        doubled = tuple(event for event, times in found.items() if times > 1)
        right = sum(found[event] == 1 for event in self._promised)
        return Verdict(place, len(self._promised), right, missing, extra, doubled)

    def _newest(self, rows: Iterable[Stored]) -> dict[str, str]:
        """Name the newest event of each contact; not of one whose promised results are not all stored yet.

        The call time is the simulator's own; when a result came first only the database can say.
        """
        present, newest = set[str](), dict[str, tuple[object, ...]]()
        for row in rows:
            present.add(row.event_id)
            newest[row.record_id] = max(self._key(row), newest.get(row.record_id, ()))
        waiting = {self._known[event].record_id for event in self._promised if event not in present}
        return {record: str(key[-1]) for record, key in newest.items() if record not in waiting}

    def _key(self, row: Stored) -> tuple[object, ...]:
        known = self._known.get(row.event_id)
        event = DialResult(
            event_id=row.event_id,
            merchant=self._merchant,
            task_id="-",
            record_id=row.record_id,
            received_at=row.received_at,
            source=row.source,
            result=_NO_RECORD,
        )
        return newest_key(event, known.called_at if known else row.called_at)

    async def _shown(
        self, effects: Iterable[Effect], newest: Mapping[str, str], *, at_contacts: bool
    ) -> Mapping[str, str | None]:
        """Tell which event each contact shows."""
        if at_contacts:
            states = await self._sinks.states(f"{self._merchant}:{record}" for record in self._contacts)
            return {contact.partition(":")[2]: event for contact, event in states.items()}
        had = {effect.event_id for effect in effects}
        return {record: event for record, event in newest.items() if event in had}

    def _in_newest_state(self, newest: Mapping[str, str], shown: Mapping[str, str | None]) -> Verdict:
        wrong = tuple(
            f"{self._merchant}:{record}"
            for record in self._contacts
            if record not in newest or shown.get(record) != newest[record]
        )
        return Verdict(CONTACTS, len(self._contacts), len(self._contacts) - len(wrong), wrong)

    def _at_most_once(self, effects: Iterable[Effect]) -> Verdict:
        found = Counter(effect.event_id for effect in effects)
        extra = tuple(event for event in found if event not in self._known)
        doubled = tuple(event for event, times in found.items() if times > 1)
        return Verdict(EFFECTS, len(found), sum(times == 1 for times in found.values()), (), extra, doubled)
