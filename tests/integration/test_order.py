"""Whatever comes late, twice, replayed or reconciled: in the end every sink shows the newest result of each contact."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from deltalake import DeltaTable, QueryBuilder

from consumers.finding import find
from consumers.sinks import analytics, crm, storage
from consumers.sinks.storage.migrate import migrate
from schemas import topics
from schemas.blu import BluRecord
from schemas.event import DialResult, dial_result
from schemas.exact import canonical
from schemas.mapping import newest_key
from tests.crm import TOKEN, Crm, sandbox
from tests.services import Database

from .delivery import Kafka, live_ones_held, own_topics, running, until_committed
from .ordering import Day, Step, newest

NAMES = ("storage", "analytics", "crm")
DAYS = int(os.environ.get("FAULTS_ORDER_DAYS", "10"))


class Real:
    """A sink of ours, as the runner gets it."""

    def __init__(self, name: str, settings: Any) -> None:
        self._module, self._settings = find(name), settings

    def connect(self) -> Any:
        return self._module.connect(self._settings, {})


class Sinks:
    """All three, and what each shows of every contact."""

    def __init__(self, folder: Path, dsn: str, sandbox_crm: Crm) -> None:
        self._dsn, self._crm = dsn, sandbox_crm
        self._uri = str(folder / "delta")
        crm_settings = {"url": sandbox_crm.url, "token": TOKEN, "ledger_dsn": dsn, "limit_calls": 1_000_000}
        self.sinks = {
            "storage": Real("storage", storage.Settings(dsn=dsn)),  # type: ignore[arg-type]
            "analytics": Real("analytics", analytics.Settings(uri=self._uri, pseudonym_key="secret")),  # type: ignore[arg-type]
            "crm": Real("crm", crm.Settings(**crm_settings)),  # type: ignore[arg-type]
        }

    async def storage(self) -> dict[str, str]:
        connection = await asyncpg.connect(self._dsn)
        try:
            rows = await connection.fetch("SELECT record_id, event_id FROM latest_result")
        finally:
            await connection.close()
        return {row["record_id"]: str(row["event_id"]) for row in rows}

    def analytics(self, events: Mapping[str, DialResult]) -> dict[str, str]:
        """Apply the rule to the table's own columns."""
        query = "SELECT event_id, record_id, called_at, received_at, source FROM t"
        table = QueryBuilder().register("t", DeltaTable(self._uri)).execute(query).read_all()
        found: dict[str, tuple[Any, ...]] = {}
        columns = [table[name].to_pylist() for name in ("event_id", "record_id", "called_at", "received_at", "source")]
        for event_id, contact, called_at, received_at, source in zip(*columns, strict=True):
            row = _replaced(events[event_id], received_at, source)
            found[contact] = max(newest_key(row, called_at), found.get(contact, ()))
        return {contact: str(key[-1]) for contact, key in found.items()}

    async def crm(self, contacts: Iterable[str]) -> dict[str, str | None]:
        return {contact: await self._crm.shows(f"demo:{contact}") for contact in contacts}


def _replaced(event: DialResult, received_at: Any, source: str) -> DialResult:
    return DialResult(
        event_id=event.event_id,
        merchant=event.merchant,
        task_id=event.task_id,
        record_id=event.record_id,
        received_at=received_at,
        source=source,
        result=event.result,
    )


@asynccontextmanager
async def all_sinks(folder: Path, postgres: Database) -> AsyncIterator[Sinks]:
    dsn = await asyncio.to_thread(postgres.fresh_database)
    await migrate(dsn)
    async with sandbox(folder / "crm", limit=1_000_000) as sandbox_crm:
        yield Sinks(folder, dsn, sandbox_crm)


async def play(kafka: Kafka, steps: list[Step], names: Iterable[str] = NAMES) -> None:
    """Publish step after step; a replay copies what stands in the topic, to each consumer's own replay topic."""
    places: dict[int, Any] = {}
    for step in steps:
        if not step.replayed:
            (places[id(step.event)],) = await kafka.publish([step.event])
            continue
        place = places[id(step.event)]
        original = {"original_topic": place.topic, "original_partition": str(place.partition)}
        for name in names:
            headers = {"replay_id": "r-1", "original_offset": str(place.offset)} | original
            await kafka.publish([step.event], topics.replay(name), **headers)


async def final_states(
    day: Day, broker: Any, monkeypatch: pytest.MonkeyPatch, postgres: Database, folder: Path
) -> tuple[dict[str, str], dict[str, Any]]:
    """Let three consumers have the day, in small batches; return what is right, and what each sink shows."""
    steps = day.steps()
    expected = newest(step.event for step in steps)
    async with AsyncExitStack() as stack:
        kafka = await stack.enter_async_context(own_topics(broker.bootstrap_servers, monkeypatch, *NAMES))
        sinks = await stack.enter_async_context(all_sinks(folder, postgres))
        for name in NAMES:
            await stack.enter_async_context(running(kafka, sinks.sinks[name], name=name, max_events=50))
        await play(kafka, steps)
        for name in NAMES:
            await until_committed(kafka, name)
            await until_committed(kafka, name, topics.replay(name))
        events = {step.event.event_id: step.event for step in steps}
        shown = {"storage": await sinks.storage(), "analytics": sinks.analytics(events)}
        return expected, shown | {"crm": await sinks.crm(expected)}


async def test_every_sink_ends_at_the_newest_result_of_each_contact(
    broker: Any, monkeypatch: pytest.MonkeyPatch, postgres: Database, tmp_path: Path
) -> None:
    expected, shown = await final_states(Day(1), broker, monkeypatch, postgres, tmp_path)
    assert len(expected) == 30
    assert shown == dict.fromkeys(NAMES, expected)


def _first_and_late(kind: str) -> list[DialResult]:
    """Make the first copy of a result, a newer result of its contact, and the first one's late copy."""
    one, other = ({"id": "c1", "number": number, "kind": kind} for number in (1, 2))
    received = [(one, 0), (other, 60_000), (one, 120_000)]
    return [
        dial_result("demo", "1", BluRecord(0, "c1", canonical(record)), 1_700_000_000_000 + later_ms)
        for record, later_ms in received
    ]


@pytest.mark.parametrize("name", NAMES)
async def test_a_replay_that_overtakes_its_live_partition_does_not_make_a_late_copy_the_first(
    name: str, broker: Any, monkeypatch: pytest.MonkeyPatch, postgres: Database, tmp_path: Path
) -> None:
    first, newer, late = events = _first_and_late(name)
    async with (
        own_topics(broker.bootstrap_servers, monkeypatch, name) as kafka,
        all_sinks(tmp_path, postgres) as sinks,
    ):
        await play(kafka, [*map(Step, events), Step(late, replayed=True)], (name,))
        with live_ones_held(monkeypatch) as let_go:
            async with running(kafka, sinks.sinks[name], name=name):
                await until_committed(kafka, name, topics.replay(name))
                let_go()
                await until_committed(kafka, name)
        by_id = {one.event_id: one for one in (first, newer)}
        shows = {
            "storage": sinks.storage,
            "analytics": lambda: asyncio.to_thread(sinks.analytics, by_id),
            "crm": lambda: sinks.crm(["c1"]),
        }
        assert await shows[name]() == {"c1": newer.event_id}


@pytest.mark.faults
@pytest.mark.timeout(1800)
async def test_the_same_for_many_days(
    broker: Any, monkeypatch: pytest.MonkeyPatch, postgres: Database, tmp_path: Path
) -> None:
    wrong, states = dict.fromkeys(NAMES, 0), 0
    for seed in range(2, DAYS + 2):
        with monkeypatch.context() as patch:
            day = Day(seed, contacts=60, results=6)
            expected, shown = await final_states(day, broker, patch, postgres, tmp_path / str(seed))
        states += len(expected)
        for name in NAMES:
            wrong[name] += sum(shown[name].get(contact) != event_id for contact, event_id in expected.items())
    print(f"\n{DAYS} days, {states} contacts' final states in each of three sinks; wrong: {wrong}", flush=True)
    assert wrong == dict.fromkeys(NAMES, 0)
