"""The CRM sink with a real ledger and the sandbox CRM: one effect an event, and always the newest result."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from consumers.sink import EventsRejected, SinkUnavailable
from consumers.sinks.crm import CrmSink, Settings, connect, event_ids
from consumers.sinks.storage.migrate import migrate
from ops.standalone import crm_desk
from schemas import wire
from schemas.event import DialResult
from tests.crm import TOKEN, Crm, called, deliveries, event, sandbox
from tests.services import Database

LIMIT_S = 90.0
LATE_S = 3_600.0  # with the fixture `arrives`: until that is set
NEVER = "postgresql://nobody:nothing@127.0.0.1:1/nothing"


@dataclass
class Place:
    """A sandbox CRM and a ledger."""

    crm: Crm
    dsn: str

    def settings(self, **more: Any) -> Settings:
        given = {"url": self.crm.url, "token": TOKEN, "ledger_dsn": self.dsn, "pause_s": 0.05} | more
        return Settings(**given)

    def sink(self, **more: Any) -> AbstractAsyncContextManager[CrmSink]:
        return connect(self.settings(**more), {})

    async def query(self, sql: str, *values: Any) -> list[Any]:
        connection = await asyncpg.connect(self.dsn)
        try:
            return list(await connection.fetch(sql, *values))
        finally:
            await connection.close()

    async def states(self) -> dict[str, str]:
        return {str(row["event_id"]): row["state"] for row in await self.query("SELECT * FROM ops.crm_ledger")}

    async def delayed(self) -> bool:
        """Tell whether the call that the script delays has come: then nothing is left in the script."""
        return not await self.crm.get("/faults")

    async def lose_locks(self) -> None:
        """Cut the connection that holds the contacts' locks, as after a freeze."""
        cut = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        await until(lambda: self.query(cut))


@pytest.fixture
async def place(postgres: Database, tmp_path: Path) -> AsyncIterator[Place]:
    dsn = await asyncio.to_thread(postgres.fresh_database)
    await migrate(dsn)
    async with sandbox(tmp_path / "state") as crm:
        yield Place(crm, dsn)


@pytest.fixture
async def arrives(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Calls that a fault delays by LATE_S arrive at the CRM when this is set."""
    event = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await (event.wait() if seconds == LATE_S else asyncio.sleep(seconds))

    monkeypatch.setattr(crm_desk, "asyncio", SimpleNamespace(sleep=sleep))
    return event


async def until(condition: Callable[[], Any]) -> Any:
    """Wait for something true."""
    async with asyncio.timeout(LIMIT_S):
        while not (found := await condition()):
            await asyncio.sleep(0.02)
    return found


async def settle(sink: CrmSink, *events: DialResult) -> dict[str, str]:
    """Write until settled, as the runner does; return what was rejected."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                await sink.write(deliveries(*events))
            except SinkUnavailable as away:
                await asyncio.sleep(away.retry_after_s or 0.02)
            except EventsRejected as rejected:
                return rejected.reasons
            else:
                return {}


def ids(events: Sequence[DialResult]) -> list[str]:
    return [one.event_id for one in events]


async def test_repeats_have_one_effect(place: Place) -> None:
    one = event("55667448", name="Bob")
    repeats = [event("55667448", name="Bob", received_ms=1_700_000_000_000 + number * 300_000) for number in range(6)]
    assert {repeat.event_id for repeat in repeats} == {one.event_id}
    async with place.sink() as sink:
        await sink.write(deliveries(one, *repeats))
        for repeat in repeats:
            await sink.write(deliveries(repeat))
    async with place.sink() as successor:
        await successor.write(deliveries(*repeats))
    assert await place.crm.effects() == [one.event_id]
    assert await event_ids(place.settings()) == [one.event_id]
    contact = await place.crm.get("/contacts/demo:55667448")
    assert contact["properties"]["dial_result_received_at"] == "2023-11-14T22:13:20.000Z"


async def test_the_newest_wins_in_every_order_and_cut(place: Place) -> None:
    async with place.sink(limit_calls=10_000) as sink:
        for number, (order, cut) in enumerate(itertools.product(itertools.permutations(range(4)), (1, 2, 3, 4))):
            results = [called(f"{number}", minute) for minute in range(4)]
            inputs = [results[minute] for minute in order]
            for start in range(0, 4, cut):
                await settle(sink, *inputs[start : start + cut])
            assert await place.crm.shows(f"demo:{number}") == results[3].event_id
    effects = await place.crm.effects()
    assert len(effects) == len(set(effects))
    assert set((await place.states()).values()) == {"done", "superseded"}


async def test_without_call_time_the_first_received_counts_and_ties_go_by_event_id(place: Place) -> None:
    early, late = event("1", "early", received_ms=1_000), event("1", "late", received_ms=2_000)
    tied = [event("2", text, received_ms=1_000) for text in ("a", "b", "c")]
    async with place.sink() as sink:
        await settle(sink, late)
        await settle(sink, early, *tied)
    assert await place.crm.shows("demo:1") == late.event_id
    assert await place.crm.shows("demo:2") == max(ids(tied))


async def test_a_thousand_events_of_two_hundred_contacts_are_two_calls(place: Place) -> None:
    results = [called(f"{number % 200}", number // 200) for number in range(1_000)]
    async with place.sink() as sink:
        await sink.write(deliveries(*results))
    assert [call["inputs"] for call in await place.crm.calls()] == [100, 100]
    assert sorted(await place.crm.effects()) == sorted(ids(results[800:]))


@pytest.mark.parametrize("fault", [{"lose": True}, {"status": 500, "apply": True}, {"reply_delay_s": 30}])
async def test_a_lost_reply_is_repeated_and_has_one_effect(place: Place, fault: dict[str, Any]) -> None:
    one = event("1")
    async with place.sink(call_timeout_s=0.5) as sink:
        await place.crm.faults(fault)
        with pytest.raises(SinkUnavailable):
            await sink.write(deliveries(one))
        assert await place.states() == {one.event_id: "pending"}
        await settle(sink, one)
    assert await place.crm.effects() == [one.event_id]
    (row,) = await place.query("SELECT * FROM ops.crm_ledger")
    assert (row["state"], row["contact"], row["destination"]) == ("done", "demo:1", "hubspot")
    assert row["attempts"] >= 2  # more where the machine is too busy for so short a limit
    assert row["remote_id"] == (await place.crm.get("/contacts/demo:1"))["id"]


async def test_a_repeat_behind_a_lost_reply_is_no_second_effect(place: Place) -> None:
    one, repeat = event("1", received_ms=1_000), event("1", received_ms=301_000)
    async with place.sink() as sink:
        await place.crm.faults({"lose": True})
        with pytest.raises(SinkUnavailable):
            await sink.write(deliveries(one))
        await settle(sink, repeat)
    assert await place.crm.effects() == [one.event_id]


async def test_429_is_honoured(place: Place) -> None:
    async with place.sink() as sink:
        await place.crm.faults({"status": 429, "retry_after_s": 1})
        with pytest.raises(SinkUnavailable) as away:
            await sink.write(deliveries(event("1")))
        assert (away.value.reason, away.value.retry_after_s) == ("crm-rate-limit", 1.0)
        await settle(sink, event("1"))
    refused, *more = await place.crm.calls()
    assert [call["status"] for call in more] == [200]
    assert more[0]["at"] - refused["at"] >= 1.0


async def test_what_is_finished_stays_finished_when_another_call_fails(place: Place) -> None:
    events = [event(str(number)) for number in range(250)]
    async with place.sink(concurrency=1) as sink:
        await place.crm.faults({"delay_s": 0}, {"status": 503})
        with pytest.raises(SinkUnavailable) as away:
            await sink.write(deliveries(*events))
        assert away.value.reason == "crm-status-503"
        assert list((await place.states()).values()).count("done") == 150
        await settle(sink, *events)
    assert sum(call["inputs"] for call in await place.crm.calls()) == 350
    assert sorted(await place.crm.effects()) == sorted(ids(events))


async def test_a_permanent_refusal_rejects_exactly_those(place: Place) -> None:
    events = [event(str(number)) for number in range(300)]
    bad = events[::100]
    async with place.sink() as sink:
        refused = [f"demo:{one.record_id}" for one in bad]
        await place.crm.faults({"calls": None, "reject": refused, "category": "INVALID_EMAIL"})
        with pytest.raises(EventsRejected) as rejected:
            await sink.write(deliveries(*events))
        assert rejected.value.reasons == dict.fromkeys(ids(bad), "crm-invalid-email")
        states = await place.states()
        assert sorted(key for key, state in states.items() if state == "rejected") == sorted(ids(bad))
        assert await settle(sink, *events) == rejected.value.reasons
        await place.crm.good_days()
        assert await settle(sink, *bad) == {}  # redriven once the cause is mended
    assert sorted(await place.crm.effects()) == sorted(ids(events))


async def test_a_conflict_for_ever_is_given_up_and_an_outage_is_not(place: Place) -> None:
    stuck, others = event("1"), [event("2"), event("3")]
    async with place.sink(give_up_s=0.3, breaker_failures=1_000) as sink:
        await place.crm.faults({"calls": None, "reject": ["demo:1"], "category": "CONFLICT"})
        with pytest.raises(SinkUnavailable) as away:
            await sink.write(deliveries(stuck, *others))
        assert (away.value.reason, away.value.retry_after_s) == ("crm-conflict", None)
        assert sorted(await place.crm.effects()) == sorted(ids(others))
        assert await settle(sink, stuck, *others) == {stuck.event_id: "crm-conflict-too-long"}
        assert {call["inputs"] for call in (await place.crm.calls())[1:]} == {1}, "only the stuck one is tried again"
        await place.crm.good_days()
        await place.crm.faults({"calls": 15, "status": 503})
        assert await settle(sink, stuck) == {}
    assert set((await place.states()).values()) == {"done"}


@pytest.mark.parametrize("vendor", ["salesforce", "webhook"])
async def test_every_vendor_keeps_the_newest_and_one_effect(place: Place, vendor: str) -> None:
    results = [called(f"{number % 30}", number // 30) for number in range(120)]
    async with place.sink(vendor=vendor, limit_calls=10_000) as sink:
        await place.crm.faults({"lose": True}, {"status": 500, "apply": True})
        for start in range(0, 120, 25):
            assert await settle(sink, *results[start : start + 25]) == {}
    effects = await place.crm.effects()
    assert len(effects) == len(set(effects))
    for number in range(30):
        assert await place.crm.shows(f"demo:{number}") == results[90 + number].event_id


@pytest.mark.parametrize("vendor", ["hubspot", "salesforce", "webhook"])
async def test_a_stale_call_is_repaired_at_a_crm_that_remembers_keys(
    place: Place, vendor: str, arrives: asyncio.Event
) -> None:
    stale, newer = called("1", 1), called("1", 2)
    async with place.sink(vendor=vendor, call_timeout_s=LIMIT_S) as frozen, place.sink(vendor=vendor) as other:
        await place.crm.faults({"delay_s": LATE_S})
        writing = asyncio.create_task(settle(frozen, stale))
        await until(place.delayed)
        await place.lose_locks()
        await settle(other, newer)
        arrives.set()
        await writing
    assert await place.crm.effects() == [newer.event_id, stale.event_id, newer.event_id]
    assert await place.crm.shows("demo:1") == newer.event_id


async def test_behind_a_rejected_newest_the_next_newest_is_sent(place: Place) -> None:
    older, oldest, newest = called("1", 2), called("1", 1), called("1", 3)
    async with place.sink() as sink:
        await place.crm.faults({"reject": ["demo:1"]})
        assert await settle(sink, newest, oldest, older) == {newest.event_id: "crm-validation-error"}
    assert await place.crm.effects() == [older.event_id]
    expected = {newest.event_id: "rejected", older.event_id: "done", oldest.event_id: "superseded"}
    assert await place.states() == expected


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_pauses_and_rejects_nothing(
    place: Place, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    events = [event(str(number), name="Canary Bob", mobile="138****0101") for number in range(120)]
    async with place.sink(token="wrong" if status == 401 else TOKEN, pause_s=600.0) as sink:
        if status == 403:
            await place.crm.faults({"calls": None, "status": 403})
        for _ in range(3):
            with pytest.raises(SinkUnavailable) as away:
                await sink.write(deliveries(*events))
            assert away.value.retry_after_s == pytest.approx(600.0, abs=100)
        assert len(await place.crm.calls()) <= 2  # and not a call more during the pause
    await place.crm.good_days()
    assert set((await place.states()).values()) == {"pending"}
    assert await place.crm.effects() == []
    async with place.sink() as sink:
        assert await settle(sink, *events) == {}
    assert sorted(await place.crm.effects()) == sorted(ids(events))
    logged = "".join(capsys.readouterr())
    assert "refuses our token" in logged
    assert not [canary for canary in ("Canary", "138****0101", TOKEN, "wrong", "demo:") if canary in logged]


CHILD = """
import asyncio, json, sys
from consumers.sinks.crm import Settings, connect
from schemas import wire
from tests.crm import deliveries

async def main():
    given = json.load(sys.stdin)
    async with connect(Settings(**given["settings"]), {}) as sink:
        await sink.write(deliveries(*(wire.decode(value.encode()) for value in given["events"])))

asyncio.run(main())
"""


def start(place: Place, events: Sequence[DialResult]) -> subprocess.Popen[bytes]:
    settings = {"url": place.crm.url, "token": TOKEN, "ledger_dsn": place.dsn, "call_timeout_s": LIMIT_S}
    given = {"settings": settings, "events": [wire.encode(one).value.decode() for one in events]}
    process = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE)
    assert process.stdin
    process.stdin.write(json.dumps(given).encode())
    process.stdin.close()
    return process


@asynccontextmanager
async def child(place: Place, *events: DialResult) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A process that writes these events; killed at the end."""
    process = start(place, events)
    try:
        yield process
    finally:
        process.kill()
        await asyncio.to_thread(process.wait, LIMIT_S)


async def test_killed_between_call_and_ledger_and_redelivered_in_other_cuts(place: Place) -> None:
    old, new, other = called("1", 1), called("1", 2), called("2", 1)
    await place.crm.faults({"reply_delay_s": 3_600})
    async with child(place, old, new, other) as process:
        assert len(await until(place.crm.effects)) == 2
        process.kill()
        await asyncio.to_thread(process.wait, LIMIT_S)
    assert await place.states() == {new.event_id: "pending", other.event_id: "pending"}
    async with place.sink() as sink:
        await settle(sink, old)  # the cut that would send an older result over a newer one
        assert await place.crm.shows("demo:1") == new.event_id
        await settle(sink, old, new, other)
    assert sorted(await place.crm.effects()) == sorted([new.event_id, other.event_id])
    assert set((await place.states()).values()) == {"done", "superseded"}


async def test_killed_before_the_call_arrives(place: Place) -> None:
    one = event("1")
    await place.crm.faults({"delay_s": 3_600})
    async with child(place, one) as process:
        await until(place.states)
        process.kill()
        await asyncio.to_thread(process.wait, LIMIT_S)
    assert await place.crm.effects() == []
    async with place.sink() as sink:
        await settle(sink, one)
    assert await place.crm.effects() == [one.event_id]


async def test_two_writers_race_for_the_same_contacts(place: Place) -> None:
    contacts, each = 40, 6
    log = [called(f"{contact}", minute) for contact in range(contacts) for minute in range(each)]

    async def write(seed: int) -> None:
        mine = random.Random(seed).sample(log, len(log))
        async with place.sink(limit_calls=10_000) as sink:
            for start in range(0, len(mine), 17):
                await settle(sink, *mine[start : start + 17])

    await asyncio.gather(write(1), write(2))
    effects = await place.crm.effects()
    assert len(effects) == len(set(effects))
    for contact in range(contacts):
        assert await place.crm.shows(f"demo:{contact}") == log[contact * each + each - 1].event_id


@pytest.mark.parametrize("reply", [{}, {"lose": True}], ids=["answered", "lost"])
async def test_a_stale_call_of_one_that_lost_its_locks_is_repaired(
    place: Place, reply: dict[str, Any], arrives: asyncio.Event
) -> None:
    stale, newer = called("1", 1), called("1", 2)
    async with place.sink(call_timeout_s=LIMIT_S) as frozen, place.sink() as other:
        await place.crm.faults({"delay_s": LATE_S} | reply)
        writing = asyncio.create_task(settle(frozen, stale))
        await until(place.delayed)
        await place.lose_locks()
        await settle(other, newer)
        assert await place.crm.shows("demo:1") == newer.event_id
        arrives.set()
        await writing
    assert await place.crm.effects() == [newer.event_id, stale.event_id, newer.event_id]
    assert await place.crm.shows("demo:1") == newer.event_id
    assert await place.states() == {stale.event_id: "superseded", newer.event_id: "done"}


async def test_contacts_in_other_hands_are_waited_for_within_bounds(place: Place, arrives: asyncio.Event) -> None:
    async with place.sink(call_timeout_s=LIMIT_S) as holder, place.sink(lock_timeout_s=0.3) as other:
        await place.crm.faults({"delay_s": LATE_S})
        holding = asyncio.create_task(settle(holder, event("1", "a"), event("2")))
        await until(place.delayed)
        with pytest.raises(SinkUnavailable) as away:
            await other.write(deliveries(event("1", "b")))
        assert away.value.reason == "ledger-sqlstate-55P03"
        assert not holding.done(), "they are in other hands all the time"
        assert not arrives.is_set()
        await settle(other, event("3"))
        holding.cancel()
        await asyncio.wait((holding,))
        await settle(other, event("1", "b"))
    assert await place.crm.shows("demo:1") in ids([event("1", "a"), event("1", "b")])


async def test_a_cancelled_write_leaves_no_lock(place: Place) -> None:
    async with place.sink(lock_timeout_s=20.0) as sink, place.sink(lock_timeout_s=20.0) as other:
        await place.crm.faults({"delay_s": 3_600})
        writing = asyncio.create_task(sink.write(deliveries(event("1"))))
        await until(place.delayed)
        writing.cancel()
        await asyncio.wait((writing,))
        await other.write(deliveries(event("1")))
        await sink.write(deliveries(event("1")))
    assert await place.crm.effects() == [event("1").event_id]


async def test_only_the_newest_result_of_a_contact_keeps_its_values_in_the_ledger(place: Place) -> None:
    async with place.sink() as sink:
        for minute in range(4):
            await settle(sink, called("1", minute, name="Canary Bob"))
    rows = await place.query("SELECT * FROM ops.crm_ledger WHERE properties IS NOT NULL")
    assert [str(row["event_id"]) for row in rows] == [called("1", 3, name="Canary Bob").event_id]


async def test_a_ledger_that_is_away_or_not_migrated_is_unavailable(place: Place, postgres: Database) -> None:
    empty = await asyncio.to_thread(postgres.fresh_database)
    for dsn, reason in ((NEVER, "ledger-"), (empty, "ledger-sqlstate-42P01")):
        with pytest.raises(SinkUnavailable) as away:
            async with place.sink(ledger_dsn=dsn):
                pass
        assert away.value.reason.startswith(reason)
        assert "nobody" not in away.value.reason
