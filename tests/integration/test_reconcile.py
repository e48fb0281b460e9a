"""`dial-results reconcile` against the simulator's query, a real database and a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from consumers.sinks import storage
from consumers.sinks.storage.migrate import migrate
from ops.blu.bodies import Callback, callbacks
from ops.blu.queries import APP_ID, Queries
from schemas import topics, wire
from schemas.blu import BluRecord, decode_callback
from schemas.event import DialResult, dial_result
from tests.crm import deliveries
from tests.integration.test_receiver_publisher import ensure_topics, reading
from tests.services import Broker, Database

KEY = "made-up-key"


def made(count: int, seed: int) -> list[Callback]:
    return list(callbacks(seed, date(2026, 11, 24), ZoneInfo("UTC"), count))


def event(callback: Callback, received_ms: int | None = None) -> DialResult:
    record = BluRecord(0, callback.record_id, callback.canonical)
    return dial_result("demo", callback.task_id, record, received_ms or time.time_ns() // 1_000_000)


@dataclass
class Blu:
    """The simulator's query, a merchants' file that leads to it, and where results are."""

    queries: Queries
    folder: Path
    dsn: str
    kafka: str

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "ops", "reconcile", "--merchant", "demo", *arguments]
        given = {"KAFKA_BOOTSTRAP_SERVERS": self.kafka, "STORAGE_DSN": self.dsn}
        given |= {"RECEIVER_MERCHANTS_FILE": str(self.folder / "merchants.toml")}
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(words, env=os.environ | given | environment, text=True, **pipes)

    async def run(self, *arguments: str, **environment: str) -> tuple[int, Any, str]:
        """Return exit code, what was said as JSON, and standard error."""
        process = self.start(*arguments, "--json", "--rate", "1000", **environment)
        out, err = await asyncio.to_thread(process.communicate, timeout=120)
        assert "Traceback" not in err
        return process.returncode, json.loads(out or "null"), err

    async def store(self, events: Sequence[DialResult]) -> None:
        async with storage.connect(storage.Settings(dsn=self.dsn), {}) as sink:  # type: ignore[arg-type]
            await sink.write(deliveries(*events))

    async def rows(self, query: str) -> list[Any]:
        connection = await asyncpg.connect(self.dsn)
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()


@pytest.fixture
async def blu(own_broker: Broker, postgres: Database, tmp_path: Path) -> AsyncIterator[Blu]:
    await ensure_topics(own_broker)
    dsn = postgres.fresh_database()
    await migrate(dsn)
    queries = Queries(KEY)
    async with queries.serving() as url:
        says = f'[demo.query]\nurl = "{url}"\napp_id = "{APP_ID}"\napp_key = "{KEY}"\n'
        (tmp_path / "merchants.toml").write_text(says)
        yield Blu(queries, tmp_path, dsn, own_broker.bootstrap_servers)


async def test_what_never_arrived_is_published_and_nothing_else(own_broker: Broker, blu: Blu) -> None:
    calls = made(300, seed=21)
    (task,) = {callback.task_id for callback in calls}
    for callback in calls:
        blu.queries.add(callback)
    pairs = {callback.record_id for callback in calls[::30]}
    missing = {event(one).event_id for one in calls if one.record_id in pairs}
    held = [event(one) for one in calls if one.record_id not in pairs]
    changed = held.pop()
    other = dial_result("demo", task, BluRecord(0, changed.record_id, b'{"id":"x"}'), 1_795_490_055_926)
    stranger = dial_result("demo", task, BluRecord(0, "stranger", b'{"id":"stranger"}'), 1_795_490_055_926)
    same_record = [one for one in held if one.record_id == changed.record_id]
    await blu.store([*(one for one in held if one not in same_record), other, stranger])
    asked = ("--task", task, "--settle", "0")

    code, dry, _ = await blu.run(*asked, "--dry-run")
    assert (code, dry["missing"], dry["published"], dry["extra"]) == (1, len(missing), 0, 1)
    assert dry["different"] == 1 + len(same_record)
    assert {one["blu"] for one in dry["by_task"][0]["different_events"]} >= {changed.event_id}
    assert dry["by_task"][0]["different_events"][0]["storage"] == [other.event_id]
    assert dry["by_task"][0]["extra_events"] == [stranger.event_id]
    unconfirmed, _, said = await blu.run(*asked)
    assert (unconfirmed, "give --yes" in said) == (75, True)
    assert not await blu.rows("SELECT FROM ops.audit")

    async with reading(own_broker, topics.DIAL_RESULTS) as results:
        code, done, _ = await blu.run(*asked, "--yes")
        records = await results.until(lambda records: len(records) >= len(missing))
    events = [wire.decode(record.value) for record in records]
    assert (code, done["published"]) == (1, len(missing)), "a difference is left"
    assert ({one.event_id for one in events}, len(events)) == (missing, len(missing))
    assert {one.source for one in events} == {"reconcile"}
    assert all(abs((one.received_at - datetime.now(UTC)).total_seconds()) < 600 for one in events)
    (entry,) = await blu.rows("SELECT command, counts FROM ops.audit")
    assert (entry["command"], json.loads(entry["counts"])["missing"]) == ("reconcile", len(missing))

    await blu.store(events)
    code, again, _ = await blu.run(*asked, "--yes")
    assert (code, again["missing"], again["published"]) == (1, 0, 0)
    names = {record.get("name") for record in (one.record() for one in events)}
    assert not [name for name in names if name and name in json.dumps([dry, done], ensure_ascii=False)]


async def test_tasks_come_from_storage_by_time_and_from_a_file(blu: Blu) -> None:
    calls = made(900, seed=22)
    first, second, third = sorted({callback.task_id for callback in calls})
    for callback in calls:
        blu.queries.add(callback)
    await blu.store([event(one) for one in calls if one.task_id == first])
    await blu.store([event(one, 1_795_490_055_926) for one in calls if one.task_id == second])
    code, found, _ = await blu.run("--since", "1h", "--settle", "0", "--dry-run")
    assert (code, [one["task_id"] for one in found["by_task"]]) == (0, [first])
    assert (found["good"], found["same"]) == (True, 300)
    tasks = blu.folder / "tasks.txt"
    tasks.write_text(f"{third}\n{first}\n")
    code, found, _ = await blu.run("--tasks", str(tasks), "--since", "1h", "--settle", "0", "--dry-run")
    assert (code, found["tasks"], found["missing"]) == (1, 2, 300), "a task that never called back at all"


async def test_nothing_is_called_missing_that_is_still_on_its_way(own_broker: Broker, blu: Blu) -> None:
    (callback,) = made(1, seed=23)
    blu.queries.add(callback)
    asked = ("--task", callback.task_id)
    code, found, _ = await blu.run(*asked, "--settle", "0", "--yes")
    assert (code, found["published"]) == (0, 1)
    code, _, said = await blu.run(*asked, "--settle", "0.5")
    assert (code, "behind the topic" in said) == (75, True)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=own_broker.bootstrap_servers, group_id=topics.group("storage"), enable_auto_commit=False
    )
    async with consumer:
        places = [TopicPartition(topics.DIAL_RESULTS, number) for number in range(topics.PARTITIONS)]
        consumer.assign(places)
        await consumer.commit(await consumer.end_offsets(places))
    code, found, _ = await blu.run(*asked, "--settle", "30", "--dry-run")
    assert (code, found["missing"]) == (1, 1)


async def test_a_blu_that_is_away_or_refuses_is_said(blu: Blu) -> None:
    (callback,) = made(1, seed=24)
    asked = ("--task", callback.task_id, "--settle", "0", "--yes")
    blu.queries.faults.append(403)
    code, found, _ = await blu.run(*asked)
    assert (code, found["refused"]) == (1, {callback.task_id: "code 403"})
    code, _, said = await blu.run(*asked, STORAGE_DSN="postgresql://u:p@127.0.0.1:1/none")
    assert (code, "PostgreSQL does not answer" in said) == (75, True)
    for wrong in (("--since", "60d"), ("--every", "soon"), ("--task", "1", "--every", "1d"), ()):
        assert (await blu.run(*wrong))[0] == 2
    assert (await blu.run("--task", "1", "--merchant", "nobody"))[0] == 2


async def test_every_goes_on_until_ctrl_c_and_leaves_a_line_of_counts(blu: Blu) -> None:
    (callback,) = made(1, seed=25)
    await blu.store([event(callback)])
    blu.queries.add(callback)
    process = blu.start("--since", "1d", "--settle", "0", "--yes", "--every", "1s")
    try:
        assert process.stdout
        lines = [json.loads(await asyncio.to_thread(process.stdout.readline)) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.to_thread(process.communicate, timeout=120)
    finally:
        process.kill()
    assert [(line["good"], line["same"]) for line in lines] == [(True, 1), (True, 1)]
    assert (process.returncode, "ended" in err, "Traceback" in err) == (0, True, False)


def test_the_simulators_records_differ_from_their_callbacks_in_the_named_ways_alone() -> None:
    queries = Queries(KEY)
    for callback in made(50, seed=26):
        queries.add(callback)
        record = json.loads(queries._tasks[callback.task_id][-1])
        assert record.pop("taskId") == callback.task_id
        assert isinstance(record.pop("jobId"), int)
        (posted,) = decode_callback(callback.body).records
        assert record == json.loads(posted.content)
