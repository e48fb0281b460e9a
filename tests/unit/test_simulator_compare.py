from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ops.blu.bodies import callbacks
from ops.blu.compare import ANALYTICS, CONTACTS, EFFECTS, STORAGE, Comparison, Verdict
from ops.blu.ledger import Entry, Ledger
from ops.blu.places import Effect, PlaceAway, Stored
from ops.blu.report import compared, quantile
from ops.blu.settle import Look, settle

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
STRANGE = "00000000-0000-8000-8000-000000000000"


@dataclass
class Held:
    """Sinks in memory, as they stand after everything went well; a test spoils them."""

    rows: list[Stored] = field(default_factory=list)
    table: Counter[str] = field(default_factory=Counter)
    had: list[Effect] = field(default_factory=list)
    shown: dict[str, str | None] = field(default_factory=dict)
    away: bool = False

    async def stored(self, merchant: str, tasks: Iterable[str]) -> list[Stored]:
        assert merchant == "demo"
        assert list(tasks)
        if self.away:
            raise PlaceAway("PostgreSQL: ConnectionRefusedError")
        return self.rows

    async def analysed(self, merchant: str, tasks: Iterable[str]) -> Counter[str]:
        assert merchant == "demo"
        assert list(tasks)
        return self.table

    async def effects(self) -> list[Effect]:
        return self.had

    async def states(self, contacts: Iterable[str]) -> dict[str, str | None]:
        return {contact: self.shown.get(contact) for contact in contacts}


def promised(count: int = 60) -> Ledger:
    ledger = Ledger("demo")
    for callback in callbacks(5, date(2026, 11, 24), ZoneInfo("Asia/Kuala_Lumpur"), count):
        ledger.attempt(ledger.call(callback), 200, 0.001)
    return ledger


def well(ledger: Ledger) -> Held:
    held = Held()
    for place, entry in enumerate(ledger.entries.values()):
        held.rows.append(row(entry, NOON + timedelta(seconds=place)))
        held.table[entry.event_id] = 1
    contacts = {each.record_id for each in held.rows}
    for contact in contacts:
        newest = max((each for each in held.rows if each.record_id == contact), key=age)
        held.had.append(Effect(newest.event_id, f"demo:{contact}"))
        held.shown[f"demo:{contact}"] = newest.event_id
    return held


def row(entry: Entry, received_at: datetime) -> Stored:
    return Stored(entry.event_id, entry.record_id, received_at, entry.called_at, "callback")


def age(stored: Stored) -> tuple[datetime, str]:
    return stored.called_at or stored.received_at, stored.event_id


async def look(ledger: Ledger, held: Held, *, at_contacts: bool = True) -> dict[str, Verdict]:
    return {verdict.place: verdict for verdict in await Comparison(ledger, held).look(at_contacts=at_contacts)}


@pytest.mark.parametrize("at_contacts", [True, False])
async def test_all_is_good_when_everything_is_there_once(at_contacts: bool) -> None:
    ledger = promised()
    verdicts = await look(ledger, well(ledger), at_contacts=at_contacts)
    assert [verdict.good for verdict in verdicts.values()] == [True] * 4
    assert verdicts[STORAGE].right == verdicts[ANALYTICS].expected == 60
    assert verdicts[CONTACTS].right == len({entry.record_id for entry in ledger.entries.values()}) < 60


async def test_a_missing_a_strange_and_a_doubled_result_are_named() -> None:
    ledger = promised()
    held = well(ledger)
    lost, twice = list(ledger.entries)[3:5]
    held.rows = [each for each in held.rows if each.event_id != lost]
    held.rows.append(Stored(STRANGE, "1", NOON, None, "callback"))
    del held.table[lost]
    held.table |= Counter({twice: 2, STRANGE: 1})
    verdicts = await look(ledger, held)
    assert (verdicts[STORAGE].missing, verdicts[STORAGE].extra) == ((lost,), (STRANGE,))
    assert (verdicts[ANALYTICS].missing, verdicts[ANALYTICS].extra) == ((lost,), (STRANGE,))
    assert verdicts[ANALYTICS].doubled == (twice,)
    assert (verdicts[STORAGE].right, verdicts[ANALYTICS].right) == (59, 58)
    assert f"demo:{ledger.entries[lost].record_id}" in verdicts[CONTACTS].missing


async def test_a_contact_in_an_older_state_is_named() -> None:
    ledger = promised()
    held = well(ledger)
    contact, events = next(
        (contact, events)
        for contact, newest in held.shown.items()
        if len(events := [each.event_id for each in held.rows if f"demo:{each.record_id}" == contact]) > 1
    )
    held.shown[contact] = next(event for event in events if event != held.shown[contact])
    verdicts = await look(ledger, held)
    assert verdicts[CONTACTS].missing == (contact,)
    held.shown[contact] = None
    assert (await look(ledger, held))[CONTACTS].missing == (contact,)


async def test_a_result_without_call_time_counts_from_when_it_came_first() -> None:
    ledger = promised(300)
    held = well(ledger)
    assert (await look(ledger, held))[CONTACTS].good
    several = {each.record_id for each in held.rows if each.called_at} & {
        each.record_id for each in held.rows if not each.called_at
    }
    assert several
    held.rows = [each._replace(received_at=each.received_at - timedelta(days=2)) for each in held.rows]
    wrong = (await look(ledger, held))[CONTACTS].missing
    assert wrong
    assert {contact.removeprefix("demo:") for contact in wrong} <= several


async def test_two_effects_of_one_event_and_an_effect_of_a_strange_event_are_named() -> None:
    ledger = promised()
    held = well(ledger)
    twice = held.had[0]
    held.had += [twice, Effect(STRANGE, twice.contact), Effect("other", "acme:1"), Effect("older", "demo:1")]
    verdicts = await look(ledger, held)
    assert (verdicts[EFFECTS].doubled, verdicts[EFFECTS].extra) == ((twice.event_id,), (STRANGE,))


async def test_what_was_posted_and_never_answered_200_may_be_there_or_not_but_not_twice() -> None:
    ledger = promised()
    held = well(ledger)
    entry = next(iter(ledger.entries.values()))
    entry.statuses[:] = [503]
    assert all(verdict.good for verdict in (await look(ledger, held)).values())
    held.table[entry.event_id] = 0
    held.table = +held.table
    assert (await look(ledger, held))[ANALYTICS].good
    held.table[entry.event_id] = 2
    assert (await look(ledger, held))[ANALYTICS].doubled == (entry.event_id,)


async def test_a_place_that_does_not_answer_is_no_good() -> None:
    ledger = promised()
    held = well(ledger)
    held.away = True
    verdicts = await look(ledger, held)
    assert verdicts[STORAGE].away == verdicts[CONTACTS].away == "PostgreSQL: ConnectionRefusedError"
    assert verdicts[ANALYTICS].good
    assert not verdicts[STORAGE].good


class Pipe:
    """Counts what is under way, as the test says."""

    def __init__(self, *counts: int | None) -> None:
        self.counts = list(counts)

    async def count(self) -> int | None:
        return self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]


async def watch(ledger: Ledger, held: Held, pipe: Pipe, patience_s: float, looks: list[Look]) -> Look:
    async with asyncio.timeout(60):
        return await settle(Comparison(ledger, held), pipe, patience_s, asyncio.Event(), looks.append)


async def test_nothing_counts_while_something_is_under_way() -> None:
    ledger = promised()
    held, looks = well(ledger), list[Look]()
    last = await watch(ledger, held, Pipe(None, 3, 0), 30, looks)
    assert [each.underway for each in looks] == [None, 3, 0]
    assert last.settled


async def test_a_duplicate_that_comes_late_is_seen() -> None:
    ledger = promised()
    held, looks = well(ledger), list[Look]()

    def late(seen: Look) -> None:
        looks.append(seen)
        held.table[next(iter(ledger.entries))] = 2

    async with asyncio.timeout(60):
        last = await settle(Comparison(ledger, held), Pipe(1, 0), 1, asyncio.Event(), late)
    assert looks[0].good
    assert not last.good


async def test_waiting_ends_when_nothing_moves() -> None:
    ledger = promised()
    held, looks = well(ledger), list[Look]()
    held.rows.pop()
    last = await watch(ledger, held, Pipe(5, 6, 7, 8, 9), 0.2, looks)
    assert not last.good
    assert len(looks) < 4
    assert compared(last)["places"][STORAGE]["missing"] == [list(ledger.entries)[-1]]


def test_quantiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [quantile(values, share) for share in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert quantile([3.0], 0.5) == 3.0
    assert quantile([], 0.5) is None
