"""`dial-results replay` against a real broker and database: what is counted, what is copied, and how a job stops."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from consumers.sink import Delivery
from consumers.sinks import storage
from consumers.sinks.storage.migrate import migrate
from ops.places import database
from ops.replaying import jobs, session
from ops.replaying.filters import Filters
from ops.replaying.jobs import Job
from ops.replaying.plan import Expected
from ops.replaying.show import Show
from ops.replaying.target import UnfitTarget
from schemas import topics, wire
from tests.integration.delivery import Kafka, own_topics, running, until_committed
from tests.integration.replaying import START, command, everything, ids, places, results, said
from tests.services import Broker, Database


class Kept(Show):
    """Keeps what would be shown."""

    def __init__(self) -> None:
        super().__init__(as_json=True)
        self.expected = Expected()
        self.jobs: list[Job] = []

    def plan(self, expected: Expected, rate: int, consumer: str | None) -> None:
        self.expected = expected
        super().plan(expected, rate, consumer)

    def dry(self, expected: Expected) -> None:
        pass

    def job(self, job: Job) -> None:
        self.jobs.append(job)


@pytest.fixture
async def kafka(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kafka]:
    async with own_topics(broker.bootstrap_servers, monkeypatch, "storage", "crm") as found:
        yield found


@pytest.fixture
async def dsn(postgres: Database) -> str:
    found = await asyncio.to_thread(postgres.fresh_database)
    await migrate(found)
    return found


async def replayed(kafka: Kafka, dsn: str, filters: Filters = Filters(), **more: Any) -> Kept:  # noqa: B008  # frozen
    kept = Kept()
    source, to = more.pop("source", jobs.TOPIC), more.pop("to", "storage")
    job = jobs.new(source, to, None, filters, more.pop("rate", 0))
    options = {"quick": False, "dry_run": False, "yes": True} | more
    await session.create(places(kafka, dsn), job, show=kept, **options)
    return kept


async def test_a_replayed_record_is_the_record_and_says_where_it_came_from(kafka: Kafka, dsn: str) -> None:
    events = results(30)
    await kafka.publish(events, re_sent="2026-11-24T00:00:00.000Z")
    originals = {(one.partition, one.offset): one for one in await everything(kafka, topics.DIAL_RESULTS)}
    done = await replayed(kafka, dsn)
    copies = await everything(kafka, topics.replay("storage"))
    assert len(copies) == 30
    for copy in copies:
        headers = dict(copy.headers)
        place = int(headers[topics.ORIGINAL_PARTITION]), int(headers[topics.ORIGINAL_OFFSET])
        original = originals.pop(place)
        assert (copy.key, copy.value, copy.timestamp) == (original.key, original.value, original.timestamp)
        assert copy.partition == original.partition
        assert copy.headers[: len(original.headers)] == original.headers
        assert headers[topics.REPLAY_ID].decode() == done.jobs[0].id
        assert headers[topics.ORIGINAL_TOPIC].decode() == topics.DIAL_RESULTS
    assert not originals
    assert (done.jobs[0].state, done.jobs[0].sent, done.expected.contacts) == (jobs.DONE, 30, 30)


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"since": START + timedelta(seconds=10)}, 20),
        ({"until": START + timedelta(seconds=10)}, 11),
        ({"since": START + timedelta(seconds=3), "until": START + timedelta(seconds=5)}, 2),
        ({"merchants": ("other",)}, 1),
        ({"tasks": ("1",)}, 15),
        ({"records": ("7", "8", "99")}, 2),
        ({"conclusions": ("HPTP",)}, 11),
        ({"conclusions": ("HPTP", "AP"), "merchants": ("demo",), "tasks": ("0",)}, 10),
        ({"event_ids": (results(30)[4].event_id,)}, 1),
    ],
)
async def test_filters_choose(kafka: Kafka, dsn: str, filters: dict[str, Any], count: int) -> None:
    await kafka.publish([*results(30), *results(1, merchant="other")])
    await kafka.publish_raw(b"no event")
    found = await replayed(kafka, dsn, Filters(**filters), dry_run=True)
    assert found.expected.records == count
    assert not found.jobs
    done = await replayed(kafka, dsn, Filters(**filters))
    assert (done.jobs[0].state, done.jobs[0].sent) == (jobs.DONE, count)
    assert len(await everything(kafka, topics.replay("storage"))) == count


async def test_the_time_that_counts_is_when_it_was_received(kafka: Kafka, dsn: str) -> None:
    """A receiver's clock was ahead: Kafka has another time for its record, or none."""
    for event, timestamp_ms in zip(results(6), (-1, 1, None, -1, 1, None), strict=True):
        record = wire.encode(event)
        given = int(START.timestamp() * 1000) if timestamp_ms is None else timestamp_ms
        await kafka.publish_as_other_clients_may(record.value, given, record.headers)
    found = await replayed(kafka, dsn, Filters(since=START + timedelta(seconds=2), until=START + timedelta(seconds=5)))
    assert found.jobs[0].sent == 3


async def test_where_kafka_has_no_times_all_of_the_topic_is_looked_at(kafka: Kafka, dsn: str) -> None:
    for event in results(6):
        record = wire.encode(event)
        await kafka.publish_as_other_clients_may(record.value, -1, record.headers)
    assert (await replayed(kafka, dsn, Filters(since=START + timedelta(seconds=2)))).jobs[0].sent == 4


async def test_a_team_is_given_its_own_topic_by_key(kafka: Kafka, dsn: str) -> None:
    await kafka.publish(results(20))
    mine = f"team-{topics.DIAL_RESULTS[-12:]}"
    await kafka.create_topic(mine, 2)
    await replayed(kafka, dsn, to=mine)
    copies = await everything(kafka, mine, 2)
    assert len(copies) == 20
    assert all(copy.partition == topics.partition_of(copy.key, 2) for copy in copies)


@pytest.mark.parametrize("to", ["live", "dead", "nobody", "analytics"])
async def test_what_is_no_target_is_refused(kafka: Kafka, dsn: str, to: str) -> None:
    name = {"live": topics.DIAL_RESULTS, "dead": topics.dead_letter("crm")}.get(to, to)
    with pytest.raises(UnfitTarget):
        await replayed(kafka, dsn, to=name)


async def test_what_a_sink_has_changes_nothing_and_is_counted(kafka: Kafka, dsn: str) -> None:
    events = results(40)
    await kafka.publish([*events, *events[:5]])
    sink = storage.Settings(dsn=dsn)

    class Sink:
        def connect(self) -> Any:
            return storage.connect(sink, {})

    async with running(kafka, Sink(), name="storage"):
        await until_committed(kafka, "storage")
        before = await rows(dsn)
        done = await replayed(kafka, dsn)
        assert (done.expected.records, done.expected.skipped, done.expected.contacts_changed) == (45, 45, 0)
        await until_committed(kafka, "storage", topics.replay("storage"))
        assert await rows(dsn) == before
    assert len(before) == 40


async def test_the_crm_is_asked_what_it_has_had(kafka: Kafka, dsn: str) -> None:
    events = results(10)
    await kafka.publish([*events, *results(10, attempt=2)])
    async with database(dsn) as connection:
        await connection.executemany(
            "INSERT INTO ops.crm_ledger (destination, event_id, contact, state, newest_known, newest_at) "
            "VALUES ('hubspot', $1, 'x', $2, true, now())",
            [(one.event_id, "done" if number % 2 else "superseded") for number, one in enumerate(events[:4])],
        )
    found = await replayed(kafka, dsn, dry_run=True, to="crm")
    assert (found.expected.records, found.expected.contacts) == (20, 10)
    assert (found.expected.skipped, found.expected.contacts_changed) == (4, 10)


async def test_results_come_from_storage_when_the_topic_has_lost_them(kafka: Kafka, dsn: str) -> None:
    old = results(25, text="1.50")
    async with storage.connect(storage.Settings(dsn=dsn), {}) as sink:
        await sink.write([Delivery(one, topics.DIAL_RESULTS, 0, offset) for offset, one in enumerate(old)])
    filters = Filters(since=START + timedelta(seconds=5), tasks=("1",))
    done = await replayed(kafka, dsn, filters, source=jobs.STORAGE)
    copies = await everything(kafka, topics.replay("storage"))
    expected = {one.event_id: wire.encode(one) for one in old[5:] if one.task_id == "1"}
    assert done.jobs[0].sent == len(expected) == 10
    for copy in copies:
        record = expected.pop(dict(copy.headers)["ce_id"].decode())
        assert (copy.key, copy.value, copy.timestamp) == (record.key, record.value, record.timestamp_ms)
        assert copy.partition == topics.partition_of(record.key, 3)
    assert not expected


async def test_a_job_is_paused_resumed_and_cancelled_from_elsewhere(kafka: Kafka, dsn: str) -> None:
    await kafka.publish(results(300))
    process = command(kafka, dsn, "replay", "--to", "storage", "--rate", "4", "--yes", "--json")  # for over a minute
    job = await begun(dsn, 2)
    paused = await said(command(kafka, dsn, "replay", "pause", job.id))
    assert "is paused" in paused
    assert (await said(process, 78))["state"] == jobs.PAUSED
    shown = await said(command(kafka, dsn, "replay", "show", job.id, "--json"))
    assert (shown["state"], shown["sent"]) == (jobs.PAUSED, len(await everything(kafka, topics.replay("storage"))))
    assert (await said(command(kafka, dsn, "replay", "resume", job.id, "--rate", "0", "--json")))["sent"] == 300
    assert set(ids(await everything(kafka, topics.replay("storage"))).values()) == {1}
    assert "is done" in await said(command(kafka, dsn, "replay", "cancel", job.id, "--yes"), 2)
    listed = await said(command(kafka, dsn, "replay", "list", "--json"))
    assert [one["id"] for one in listed] == [job.id]
    async with database(dsn) as connection:
        said_so = await connection.fetch("SELECT command, who, arguments, counts FROM ops.audit ORDER BY id")
    assert [row["command"] for row in said_so] == ["replay", "replay pause", "replay paused", "replay resume", "replay done"]  # fmt: skip  # noqa: E501
    assert json.loads(said_so[-1]["counts"])["sent"] == 300
    assert "@" in said_so[0]["who"]


async def test_where_nothing_is_there_nothing_is_done(kafka: Kafka, dsn: str) -> None:
    for arguments in (("replay", "--to", "storage", "--yes"), ("redrive", "storage", "--list")):
        await said(command(kafka, dsn, *arguments, "--json"))
    async with database(dsn) as connection:
        assert not await jobs.latest(connection, 1)


async def test_ctrl_c_pauses(kafka: Kafka, dsn: str) -> None:
    await kafka.publish(results(300))
    process = command(kafka, dsn, "replay", "--to", "storage", "--rate", "4", "--yes", "--json")
    job = await begun(dsn, 2)
    process.send_signal(signal.SIGINT)
    told = await said(process, 78)
    assert (told["id"], told["state"]) == (job.id, jobs.PAUSED)
    assert told["sent"] == len(await everything(kafka, topics.replay("storage"))) < 300


async def test_a_killed_job_is_told_from_a_running_one_and_goes_on(kafka: Kafka, dsn: str) -> None:
    await kafka.publish(results(300))
    process = command(kafka, dsn, "replay", "--to", "storage", "--rate", "4", "--yes")
    job = await begun(dsn, 2)
    assert job.state == jobs.RUNNING
    assert "another process works on" in await said(command(kafka, dsn, "replay", "resume", job.id), 75)
    process.kill()
    process.communicate()
    async with database(dsn) as connection:
        await until_state(connection, job.id, jobs.INTERRUPTED)
    done = await said(command(kafka, dsn, "replay", "resume", job.id, "--rate", "0", "--json"))
    assert (done["state"], done["sent"]) == (jobs.DONE, 300)
    assert len(ids(await everything(kafka, topics.replay("storage")))) == 300


async def test_the_rate_is_kept(kafka: Kafka, dsn: str) -> None:
    await kafka.publish(results(1_500))
    began = time.monotonic()
    await replayed(kafka, dsn, rate=500, quick=True)
    assert time.monotonic() - began > 2.85


async def begun(dsn: str, sent: int) -> Job:
    """Wait until there is a job that has sent so many."""
    async with database(dsn) as connection, asyncio.timeout(60):
        while not (found := await jobs.latest(connection, 1)) or found[0].sent < sent:
            await asyncio.sleep(0.05)
        return found[0]


async def until_state(connection: Any, job_id: str, state: str) -> None:
    async with asyncio.timeout(60):
        while (await jobs.get(connection, job_id)).state != state:
            await asyncio.sleep(0.05)


async def rows(dsn: str) -> list[Any]:
    async with database(dsn) as connection:
        return [tuple(row) for row in await connection.fetch("SELECT *, xmin::text FROM dial_result ORDER BY event_id")]
