"""`dial-results redrive` against a real broker and database: seen by reason, given again once, purged by age."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from consumers.sinks.storage.migrate import migrate
from ops.places import database
from ops.redriving.letters import Chosen
from ops.redriving.session import desk
from ops.replaying import jobs
from ops.replaying.filters import Filters
from ops.replaying.target import UnfitTarget
from schemas import topics
from schemas.event import DialResult
from tests.integration.delivery import Kafka, Memory, own_topics, running, until, until_committed
from tests.integration.replaying import START, command, everything, ids, places, results, said
from tests.services import Broker, Database

ALL = Chosen(Filters())
CANARY = "Canary-Lin"


@pytest.fixture
async def kafka(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kafka]:
    async with own_topics(broker.bootstrap_servers, monkeypatch, "storage") as found:
        yield found


@pytest.fixture
async def dsn(postgres: Database) -> str:
    found = await asyncio.to_thread(postgres.fresh_database)
    await migrate(found)
    return found


async def refused(kafka: Kafka, events: list[DialResult], sink: Memory) -> None:
    """Let the consumer dead-letter the first five of these; what is no event is one more."""
    bad = {one.event_id for one in events[:5]}
    sink.bad = lambda event: event.event_id in bad
    async with running(kafka, sink, name="storage"):
        await kafka.publish(events)
        await kafka.publish_raw(b"no event")
        await until_committed(kafka, "storage")


async def test_each_is_redriven_once_and_takes_effect(kafka: Kafka, dsn: str) -> None:
    sink, events = Memory(), results(12, name=CANARY)
    await refused(kafka, events, sink)
    assert len(sink.effects) == 7
    async with desk(places(kafka, dsn), "storage") as one:
        groups = {group["reason"]: group for group in (await one.groups(ALL)).told()}
        assert {reason: group["records"] for reason, group in groups.items()} == {"too-bad": 5, "not-json": 1}
        assert groups["too-bad"]["versions"] == ["1.2.3"]
        bad = Chosen(Filters(), ("too-bad",))
        assert await one.redrive(bad, 2, 0) == 2
    async with desk(places(kafka, dsn), "storage") as one:
        assert ((await one.groups(bad)).waiting, (await one.groups(bad)).settled) == (3, 2)
        assert await one.redrive(bad, None, 0) == 3
    async with desk(places(kafka, dsn), "storage") as one:
        assert await one.redrive(bad, None, 0) == 0
    sink.bad = lambda _: False
    async with running(kafka, sink, name="storage"):
        await until_committed(kafka, "storage", topics.replay("storage"))
    assert sorted(sink.effects) == sorted(event.event_id for event in events)
    originals = {dict(one.headers)["ce_id"]: one for one in await everything(kafka, topics.DIAL_RESULTS) if one.headers}
    for copy in await everything(kafka, topics.replay("storage")):
        headers = dict(copy.headers)
        original = originals[headers["ce_id"]]
        assert (copy.key, copy.value, copy.timestamp) == (original.key, original.value, original.timestamp)
        assert copy.partition == original.partition == int(headers[topics.ORIGINAL_PARTITION])
        assert int(headers[topics.ORIGINAL_OFFSET]) == original.offset
        assert not {topics.REASON, topics.CONSUMER, topics.ATTEMPTS, topics.VERSION} & headers.keys()
        assert headers[topics.REPLAY_ID].startswith(b"redrive-")


async def test_one_that_is_refused_again_waits_again(kafka: Kafka, dsn: str) -> None:
    sink = Memory()
    await refused(kafka, results(5), sink)
    async with desk(places(kafka, dsn), "storage") as one:
        await one.redrive(ALL, None, 0)
    async with running(kafka, sink, name="storage"):
        await until_committed(kafka, "storage", topics.replay("storage"))
    async with desk(places(kafka, dsn), "storage") as one:
        groups = await one.groups(ALL)
    assert (groups.waiting, groups.settled) == (6, 6)


async def test_filters_choose_among_dead_letters(kafka: Kafka, dsn: str) -> None:
    events = results(5)
    await refused(kafka, events, Memory())
    for filters, count in (
        (Filters(conclusions=("HPTP",)), 2),
        (Filters(since=START + timedelta(seconds=3)), 2),
        (Filters(event_ids=(events[2].event_id,)), 1),
        (Filters(merchants=("other",)), 0),
    ):
        async with desk(places(kafka, dsn), "storage") as one:
            assert (await one.groups(Chosen(filters))).waiting == count, filters


async def test_nobody_redrives_the_same_at_the_same_time(kafka: Kafka, dsn: str) -> None:
    await refused(kafka, results(5), Memory())
    async with desk(places(kafka, dsn), "storage"):
        with pytest.raises(jobs.JobHeld):
            async with desk(places(kafka, dsn), "storage"):
                pass
    with pytest.raises(UnfitTarget):
        async with desk(places(kafka, dsn), "nobody"):
            pass


async def test_a_person_is_masked_unless_somebody_asks_on_record(kafka: Kafka, dsn: str) -> None:
    events = results(5, name=CANARY, extVars={"debt": [CANARY, 7]})
    await refused(kafka, events, Memory())
    which = events[0].event_id
    masked = await said(command(kafka, dsn, "redrive", "storage", "--show", which))
    assert CANARY not in json.dumps(masked)
    assert masked["content"] == {"conclusion": "HPTP", "extVars": {"debt": ["***", "***"]}, "id": 0, "name": "***"}
    assert masked["headers"]["reason"] == "too-bad"
    whole = await said(command(kafka, dsn, "redrive", "storage", "--show", masked["place"], "--unmask"))
    assert (whole["content"]["name"], whole["content"]["extVars"]) == (CANARY, {"debt": [CANARY, 7]})
    async with database(dsn) as connection:
        rows = await connection.fetch("SELECT command, arguments::text AS arguments FROM ops.audit")
    assert [row["command"] for row in rows] == ["redrive unmask"]
    assert CANARY not in rows[0]["arguments"]
    await said(command(kafka, dsn, "redrive", "storage", "--show", "0:999"), 1)


async def test_the_old_are_purged_and_kafka_forgets_what_lies_before_all_that_wait(kafka: Kafka, dsn: str) -> None:
    await refused(kafka, results(5), Memory())
    limit = (START + timedelta(seconds=3)).isoformat()
    arguments = ("redrive", "storage", "--purge", "--until", limit, "--json", "--yes")
    assert (await said(command(kafka, dsn, *arguments)))["purged"] == 3
    left = await everything(kafka, topics.dead_letter("storage"))
    first = {one.partition: dict(one.headers).get("ce_id", b"") for one in reversed(left)}
    purged = {one.event_id.encode() for one in results(5)[:3]}
    assert not purged & set(first.values()), "what stands first in a partition waits: Kafka has deleted what was before"
    assert (await said(command(kafka, dsn, *arguments)))["waiting"] == 0
    listed = await said(command(kafka, dsn, "redrive", "storage", "--list", "--json"))
    assert (listed["waiting"], {one["reason"] for one in listed["reasons"]}) == (3, {"too-bad", "not-json"})
    assert (await said(command(kafka, dsn, "redrive", "storage", "--yes", "--json")))["redriven"] == 3
    await said(command(kafka, dsn, *arguments))
    async with database(dsn) as connection:
        rows = await connection.fetch("SELECT command, counts FROM ops.audit ORDER BY id")
    assert [(row["command"], json.loads(row["counts"])) for row in rows] == [
        ("redrive purge", {"purged": 3}),
        ("redrive", {"redriven": 3}),
    ]


async def test_a_dead_letter_of_a_replay_from_storage_claims_no_place_in_the_live_topic(kafka: Kafka, dsn: str) -> None:
    sink, events = Memory(), results(3)
    sink.bad = lambda _: True
    async with running(kafka, sink, name="storage"):
        await kafka.publish(events, topics.replay("storage"), replay_id="x", original_topic="storage")
        await until_committed(kafka, "storage", topics.replay("storage"))
    await until(lambda: sink.calls)
    async with desk(places(kafka, dsn), "storage") as one:
        await one.redrive(ALL, None, 0)
    copies = await everything(kafka, topics.replay("storage"))
    redriven = [one for one in copies if dict(one.headers)[topics.REPLAY_ID].startswith(b"redrive-")]
    assert len(ids(redriven)) == 3
    for copy in redriven:
        assert not {topics.ORIGINAL_PARTITION, topics.ORIGINAL_OFFSET} & dict(copy.headers).keys()
        assert copy.partition == topics.partition_of(copy.key, 3)
