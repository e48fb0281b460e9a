"""An erased contact and a replay over all that it ever said: no sink has any of it again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from consumers.receipts import PostgresReceipts
from consumers.sinks.storage.migrate import migrate
from schemas import topics
from tests.crm import sandbox
from tests.services import Broker, Database

from .delivery import Kafka, event, own_topics, running, until_committed
from .replaying import command, said
from .sinks import CONSUMERS, Sinks


@pytest.fixture
async def kafka(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kafka]:
    async with own_topics(broker.bootstrap_servers, monkeypatch, *CONSUMERS) as found:
        yield found


async def test_a_replay_brings_an_erased_contact_back_into_no_sink(
    kafka: Kafka, postgres: Database, tmp_path: Path
) -> None:
    dsn = await asyncio.to_thread(postgres.fresh_database)
    await migrate(dsn)
    stays = [event(number) for number in range(20)]
    await kafka.publish([*stays, event(7, "again"), event(7, "and again")])
    async with sandbox(tmp_path / "state", limit=100_000) as found, AsyncExitStack() as stack:
        sinks = Sinks(dsn, str(tmp_path / "lake"), found)
        for name in CONSUMERS:
            receipts = PostgresReceipts(dsn, name)
            await stack.enter_async_context(running(kafka, sinks.connecting(name), name=name, receipts=receipts))
            await until_committed(kafka, name)
        assert (len(await sinks.rows()), len(await sinks.analysed())) == (22, 22)
        environment = {"ANALYTICS_URI": sinks.uri}
        erase = command(kafka, dsn, "erase", "--merchant", "demo", "--record-id", "7", "--yes", "--json", **environment)
        told = await said(erase)
        assert {one["consumer"] for one in told["receipts"]} == set(CONSUMERS)
        wanted = sorted(one.event_id for one in stays if one.record_id != "7")
        await holds(sinks, wanted)
        for name in CONSUMERS:
            replay = command(kafka, dsn, "replay", "--to", name, "--rate", "0", "--yes", "--json", **environment)
            assert (await said(replay))["sent"] == 22
            await until_committed(kafka, name, topics.replay(name))
        await holds(sinks, wanted)


async def holds(sinks: Sinks, wanted: list[str]) -> None:
    assert sorted(str(row[0]) for row in await sinks.rows()) == wanted
    assert await sinks.analysed() == wanted
    assert [await sinks.crm.shows(f"demo:{number}") is not None for number in (6, 7, 8)] == [True, False, True]
