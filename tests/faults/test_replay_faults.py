"""Replays that are killed at random points (`make faults`): nothing is left out, and no effect happens twice."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from deltalake import DeltaTable

from consumers.sinks.storage.migrate import migrate
from ops.places import database
from ops.replaying import jobs
from schemas import topics
from schemas.event import DialResult
from tests.crm import sandbox
from tests.integration.delivery import PARTITIONS, Kafka, own_topics, running, until_committed
from tests.integration.replaying import command, everything, ids, said
from tests.integration.sinks import CONSUMERS, Sinks
from tests.services import Broker, Database

from .crm import Outcome, newest, shuffled_results

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

KILLS = int(os.environ.get("FAULTS_REPLAY_KILLS", "20"))
FALLS = int(os.environ.get("FAULTS_REPLAY_FALLS", "5"))
RATE = 300
LIMIT_S = 120.0


def report(text: str) -> None:
    print(f"\n{text}", flush=True)  # the counts are the result


async def everything_in(sinks: Sinks, events: list[DialResult]) -> dict[str, Any]:
    """Return all that a replay could change."""
    contacts = sorted(newest(events))
    return {
        "rows": await sinks.rows(),
        "delta": (await sinks.analysed(), DeltaTable(sinks.uri).count()),
        "effects": await sinks.crm.effects(),
        "contacts": [await sinks.crm.get(f"/contacts/{one}") for one in contacts],
    }


@pytest.fixture
async def kafka(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kafka]:
    async with own_topics(broker.bootstrap_servers, monkeypatch, *CONSUMERS) as found:
        yield found


@pytest.fixture
async def dsn(postgres: Database) -> str:
    found = await asyncio.to_thread(postgres.fresh_database)
    await migrate(found)
    return found


async def test_replays_that_are_killed_fill_every_sink_once_and_again_change_nothing(
    kafka: Kafka, dsn: str, tmp_path: Path
) -> None:
    events = shuffled_results(contacts=500, calls=10, seed=1)
    team = f"team-{topics.DIAL_RESULTS[-12:]}"
    await kafka.create_topic(team, PARTITIONS)
    await kafka.publish(events)
    for name in CONSUMERS:
        await pass_over(kafka, name)  # all of it is committed and nothing applied: the replays bring everything
    async with sandbox(tmp_path / "state", limit=1_000_000) as found, AsyncExitStack() as stack:
        sinks = Sinks(dsn, str(tmp_path / "lake"), found)
        for name in CONSUMERS:
            await stack.enter_async_context(running(kafka, sinks.connecting(name), name=name))
        chance = random.Random(1)
        each = KILLS // 4
        counts = await asyncio.gather(*(killed(kafka, dsn, to, each, chance) for to in (team, *CONSUMERS)))
        kills, further = (sum(column) for column in zip(*counts, strict=True))
        for name in CONSUMERS:
            await until_committed(kafka, name, topics.replay(name))

        original = ids(await everything(kafka, topics.DIAL_RESULTS))
        copied = {to: ids(await everything(kafka, to)) for to in (team, *map(topics.replay, CONSUMERS))}
        doubles = {to: sum((found - original).values()) for to, found in copied.items()}
        missing = {to: sum((original - found).values()) for to, found in copied.items()}
        outcome = await Outcome.of(found, dsn, events)
        unique = {one.event_id for one in events}
        analysed = await sinks.analysed()
        extra = len(analysed) - len(set(analysed))
        report(
            f"{kills} x kill -9, {further} of them behind a new checkpoint, of replays of {len(events)} records "
            f"to 4 targets: missing {missing}, "
            f"sent twice {doubles}; rows {len(await sinks.rows())} and Delta rows {len(analysed)} of {len(unique)} "
            f"results, {extra} twice; CRM {outcome}"
        )
        assert kills == KILLS
        assert further, "no kill came behind a checkpoint: this proves nothing"
        assert not any(missing.values())
        assert {str(row[0]) for row in await sinks.rows()} == unique
        assert analysed == sorted(unique)
        assert (outcome.missing, outcome.double, outcome.wrong) == (0, 0, 0)

        before = await everything_in(sinks, events)
        for name in CONSUMERS:
            environment = {"ANALYTICS_URI": sinks.uri}
            again = command(kafka, dsn, "replay", "--to", name, "--rate", "0", "--yes", "--json", **environment)
            told = await said(again)
            assert told["sent"] == len(events)
            assert told["expected"]["skipped"] == len(events)
            await until_committed(kafka, name, topics.replay(name))
        after = await everything_in(sinks, events)
        report(f"replayed again to 3 consumers: {len(events)} each, all skipped")
        for what, found_before in before.items():
            assert after[what] == found_before, what


async def test_a_broker_that_is_killed_beneath_a_replay_costs_it_nothing(
    own_broker: Broker, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = shuffled_results(contacts=500, calls=10, seed=2)
    chance, resumed = random.Random(2), 0
    async with own_topics(own_broker.bootstrap_servers, monkeypatch, "storage") as kafka, database(dsn) as connection:
        await kafka.publish(events)
        original = ids(await everything(kafka, topics.DIAL_RESULTS))
        process = command(kafka, dsn, "replay", "--to", "storage", "--rate", str(RATE), "--yes", "--quick")
        job_id = await begun(connection, "storage")
        for _ in range(FALLS):
            await asyncio.sleep(chance.uniform(0.5, 1.5))
            await asyncio.to_thread(own_broker.kill)
            await asyncio.sleep(chance.uniform(0.0, 12.0))
            await asyncio.to_thread(own_broker.start)
            if process.poll() is not None:
                assert process.returncode == 75
                process.communicate()
                process, resumed = command(kafka, dsn, "replay", "resume", job_id), resumed + 1
                await until_state(connection, job_id, jobs.RUNNING)
        await until_state(connection, job_id, jobs.DONE)
        await said(process)
        copied = ids(await everything(kafka, topics.replay("storage")))
    missing, doubles = (original - copied).total(), (copied - original).total()
    report(
        f"{FALLS} x kill -9 of the broker beneath a replay of {original.total()} records: {missing} missing, "
        f"{doubles} sent twice, resumed {resumed} times"
    )
    assert missing == 0


async def killed(kafka: Kafka, dsn: str, to: str, kills: int, chance: random.Random) -> tuple[int, int]:
    """Run a replay to its end, killing it so often; return how often it was at work then, and had come further."""
    process = command(kafka, dsn, "replay", "--to", to, "--rate", str(RATE), "--yes", "--quick")
    at_work = further = sent = 0
    async with database(dsn) as connection:
        job_id = await begun(connection, to)
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(0.0, 3.8))  # a checkpoint a second, and a second to start
            at_work += process.poll() is None
            process.kill()
            await asyncio.to_thread(process.communicate)
            await until_state(connection, job_id, jobs.INTERRUPTED)
            before, sent = sent, (await jobs.get(connection, job_id)).sent
            further += before < sent
            process = command(kafka, dsn, "replay", "resume", job_id)
            await until_state(connection, job_id, jobs.RUNNING)
        await said(process)
        assert (await jobs.get(connection, job_id)).state == jobs.DONE
    return at_work, further


async def begun(connection: Any, to: str) -> str:
    async with asyncio.timeout(LIMIT_S):
        while True:
            for job in await jobs.latest(connection, 10):
                if to in (job.consumer, job.target):
                    return job.id
            await asyncio.sleep(0.05)


async def until_state(connection: Any, job_id: str, state: str) -> None:
    async with asyncio.timeout(LIMIT_S):
        while (await jobs.get(connection, job_id)).state != state:
            await asyncio.sleep(0.02)


async def pass_over(kafka: Kafka, consumer: str) -> None:
    """Commit everything that stands in the live topic."""
    client = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers, group_id=topics.group(consumer), enable_auto_commit=False
    )
    await client.start()
    try:
        places = [TopicPartition(topics.DIAL_RESULTS, number) for number in range(PARTITIONS)]
        client.assign(places)
        await client.commit(await client.end_offsets(places))
    finally:
        await client.stop()
