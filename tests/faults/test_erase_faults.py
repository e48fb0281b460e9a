"""A person through all three sinks, erased: no word of theirs is left, and no replay or kill brings any back."""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka.errors import GroupCoordinatorNotAvailableError

from consumers.sinks.storage.migrate import migrate
from ops import erase
from ops.places import Places
from schemas import topics
from schemas.blu import BluRecord
from schemas.event import DialResult, dial_result
from schemas.exact import canonical
from tests.crm import TOKEN, sandbox
from tests.integration.delivery import Kafka, own_topics, process, until_committed
from tests.services import Broker, Database

pytestmark = pytest.mark.faults

SINKS = ("storage", "analytics", "crm")
KILLS = 6
LIMIT_S = 90.0


def person(number: int, call: int = 0) -> tuple[DialResult, list[str]]:
    """Make one result of a person, and the words that must not be found of them."""
    words = [f"canary-{kind}-{number}" for kind in ("name", "mobile", "salary", "said", "record")]
    name, mobile, salary, said, record_id = words
    record = {"id": record_id, "name": name, "mobile": mobile, "extVars": {"salary": salary}, "callVars": {"a": said}}
    content = canonical(record | {"call": call})
    return dial_result("demo", "1", BluRecord(0, record_id, content), int(time.time() * 1_000)), words


def others(count: int) -> list[DialResult]:
    contents = [(str(number), canonical({"id": str(number), "name": f"other-{number}"})) for number in range(count)]
    return [dial_result("demo", "1", BluRecord(0, *one), int(time.time() * 1_000)) for one in contents]


@dataclass
class Pipeline:
    """Three consumers as processes, and where each leaves what it knows."""

    kafka: Kafka
    dsn: str
    folder: Path
    crm_url: str
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        environment = {
            "STORAGE_DSN": self.dsn,
            "ANALYTICS_URI": str(self.folder / "delta"),
            "ANALYTICS_PSEUDONYM_KEY": "made-up-" * 8,
            "CRM_URL": self.crm_url,
            "CRM_TOKEN": TOKEN,
            "CRM_LEDGER_DSN": self.dsn,
            "CRM_LIMIT_CALLS": "100000",
            "CONSUMER_RECEIPTS_DSN": self.dsn,
        }
        self.running[name] = process(self.kafka, name, log=self.folder / f"{name}.log", **environment)

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running[name].wait()

    async def done(self) -> None:
        async with asyncio.timeout(LIMIT_S):
            while True:
                try:
                    await self.kafka.committed("storage")
                    break
                except GroupCoordinatorNotAvailableError:  # a new broker, which makes its topic of groups just now
                    await asyncio.sleep(0.1)
        for name in SINKS:
            await until_committed(self.kafka, name, limit_s=LIMIT_S)
            await until_committed(self.kafka, name, topic=topics.replay(name), limit_s=LIMIT_S)

    async def erase(self, record_id: str, wait_s: float = LIMIT_S) -> int:
        options = {"bootstrap_servers": self.kafka.bootstrap_servers}
        places = Places(options, self.dsn, str(self.folder / "delta"))
        run = erase._Run(places, "demo", record_id, as_json=True)
        return await run.all(SINKS, wait_s, dry_run=False, yes=True)

    async def hits(self, words: Sequence[str]) -> list[str]:
        """Return every place where one of the words stands."""
        found = [f"{table}" for table, text in await self._tables() if any(word in text for word in words)]
        for path in (one for one in self.folder.rglob("*") if one.is_file()):
            content = path.read_bytes()
            found += [str(path.relative_to(self.folder)) for word in words if word.encode() in content]
        return found

    async def _tables(self) -> list[tuple[str, str]]:
        """Return every row of every table, but those that keep the id that an erasure was asked for by."""
        connection = await asyncpg.connect(self.dsn)
        try:
            names = await connection.fetch(
                "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname IN ('public', 'ops')"
            )
            wanted = [name[0] for name in names if name[0] not in ("ops.erasure_receipt", "ops.audit")]
            return [
                (name, row[0])
                for name in wanted
                for row in await connection.fetch(f"SELECT t::text FROM {name} t")  # noqa: S608
            ]
        finally:
            await connection.close()


@asynccontextmanager
async def pipeline(broker: Broker, dsn: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pipeline]:
    async with (
        own_topics(broker.bootstrap_servers, monkeypatch, *SINKS) as kafka,
        sandbox(folder / "crm.jsonl", limit=1_000_000) as crm,
    ):
        one = Pipeline(kafka, dsn, folder, crm.url)
        try:
            for name in SINKS:
                one.start(name)
            yield one
        finally:
            for name in SINKS:
                one.kill(name)


@pytest.fixture
async def place(
    broker: Broker, postgres: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pipeline]:
    dsn = postgres.fresh_database()
    await migrate(dsn)
    async with pipeline(broker, dsn, tmp_path, monkeypatch) as found:
        yield found


async def replayed(place: Pipeline, events: Sequence[DialResult]) -> None:
    """Give them to every consumer again, live and by replay, and wait until that is done."""
    places: list[Any] = await place.kafka.publish(events)
    for name in SINKS:
        for one, live in zip(events, places, strict=True):
            original = {"original_partition": str(live.partition), "original_offset": str(live.offset)}
            await place.kafka.publish([one], topics.replay(name), replay_id="r-1", **original)
    await place.done()


@pytest.mark.timeout(300)
async def test_nothing_of_an_erased_person_is_left_and_no_replay_brings_it_back(place: Pipeline) -> None:
    one, words = person(1)
    again, _ = person(1, call=2)
    await place.kafka.publish([*others(50), one, again])
    await place.done()
    before = await place.hits(words)
    assert {"public.dial_result", "ops.crm_ledger", "crm.jsonl"} <= set(before)
    assert any(hit.startswith("delta/") for hit in before)
    assert await place.erase(one.record_id) == 0
    after = await place.hits(words)
    print(f"places with a canary: {len(before)} before, {len(after)} after the erasure")
    assert after == []
    await replayed(place, [one, again, person(1, call=3)[0], *others(50)])
    assert await place.hits(words) == []
    assert len([row for table, row in await place._tables() if table == "public.dial_result"]) == 50


@pytest.mark.timeout(580)
async def test_consumers_that_are_killed_amid_erasing_finish_it_when_they_are_back(place: Pipeline) -> None:
    people = [person(number) for number in range(KILLS)]
    await place.kafka.publish([*others(50), *(one for one, _ in people)])
    await place.done()
    unfinished = 0
    for one, _ in people:
        asking = asyncio.create_task(place.erase(one.record_id))
        await asyncio.sleep(random.uniform(0.05, 0.6))  # when it is killed is what is tried
        unfinished += not asking.done()
        for name in SINKS:
            place.kill(name)
        for name in SINKS:
            place.start(name)
        assert await asking == 0
    hits = [hit for _, words in people for hit in await place.hits(words)]
    print(f"{KILLS} erasures, {unfinished} of them with all three consumers killed amid: {len(hits)} canaries left")
    assert hits == []
    await replayed(place, [one for one, _ in people])
    assert [hit for _, words in people for hit in await place.hits(words)] == []
