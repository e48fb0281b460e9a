"""The publisher where no broker is, or one that does not answer. With a real one: tests/integration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from receiver import broker
from receiver.counts import PublishCounts
from receiver.journal import Journal, JournalFailed, JournalLimits
from receiver.publisher import Publisher
from schemas.backoff import Backoff
from tests.unit.receivers import BODY, running, until


@asynccontextmanager
async def publishing(folder: Path, bootstrap_servers: str) -> AsyncIterator[tuple[Journal, Publisher, PublishCounts]]:
    journal, counts = Journal.open(folder, JournalLimits(quota_bytes=64 << 20, segment_bytes=4 << 20)), PublishCounts()
    options = {"bootstrap_servers": bootstrap_servers}
    publisher = Publisher(journal, options, counts, Backoff(first_s=0.01, most_s=0.05))
    task = asyncio.create_task(publisher.run())
    try:
        yield journal, publisher, counts
    finally:
        task.cancel()
        await asyncio.wait((task,))
        await journal.close()


async def test_without_kafka_it_keeps_everything_and_says_so_once(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with publishing(tmp_path, "127.0.0.1:1") as (journal, _, counts):
            await journal.append("demo", BODY, 1)
            await until(lambda: counts.publish_failures > 10)
            assert journal.waiting == 1
            assert journal.published == 0
            assert not counts.kafka_up
    assert [(line["event"], line["reason"]) for line in logs] == [("publishing_stalled", "unreachable")]


async def test_a_broker_that_takes_connections_and_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "_CONNECT_S", 0.3)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, publishing(tmp_path, f"127.0.0.1:{port}") as (journal, _, counts):
        await journal.append("demo", BODY, 1)
        await until(lambda: counts.publish_failures >= 3)
        assert journal.waiting == 1


async def test_a_host_without_a_name_is_unreachable_like_any_other(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with publishing(tmp_path, "no-such-host.invalid:9092") as (journal, _, counts):
            await journal.append("demo", BODY, 1)
            await until(lambda: counts.publish_failures >= 1, 180)  # a machine without a network asks for long
    assert logs[0]["reason"] == "unreachable"


async def test_on_stop_nobody_waits_for_a_kafka_that_is_away(tmp_path: Path) -> None:
    async with running(tmp_path, kafka={"bootstrap_servers": "127.0.0.1:1"}, stop_grace_s=600.0) as one:
        await one.post()
        await until(lambda: one.receiver.counts.publishing.publish_failures >= 1)
    assert one.receiver.journal.waiting == 1, "and it has stopped, within a tenth of the grace"


async def test_a_journal_that_fails_ends_the_publisher(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, JournalLimits(quota_bytes=64 << 20, segment_bytes=4 << 20))
    await journal.append("demo", BODY, 1)
    journal.read = lambda *_: (_ for _ in ()).throw(JournalFailed("broken"))  # type: ignore[method-assign]
    with pytest.raises(JournalFailed):
        await Publisher(journal, {"bootstrap_servers": "127.0.0.1:1"}, PublishCounts()).run()
    await journal.close()
