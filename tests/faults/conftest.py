"""A broker that notices soon who is gone, topics of a test's own, and a migrated database."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from consumers.sinks.storage.migrate import migrate
from ops.standalone import jars
from schemas import topics
from tests.integration.delivery import Kafka, own_topics
from tests.services import Broker, Database, free_port

from .members import QuickKafka


@pytest.fixture(scope="module")
def quick_broker() -> Iterator[Broker]:
    with tempfile.TemporaryDirectory(prefix="dial-results-test-", ignore_cleanup_errors=True) as folder:
        broker = Broker(Path(folder))
        broker._kafka = QuickKafka(Path(folder), free_port(), free_port(), jars.classpath())
        try:
            broker.start()
            yield broker
        finally:
            broker.kill()


@pytest.fixture
async def kafka(quick_broker: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kafka]:
    async with own_topics(quick_broker.bootstrap_servers, monkeypatch, *topics.CONSUMERS) as found:
        yield found


@pytest.fixture
async def dsn(postgres: Database) -> str:
    found = await asyncio.to_thread(postgres.fresh_database)
    await migrate(found)
    return found
