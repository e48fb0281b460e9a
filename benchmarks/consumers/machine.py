"""The real Kafka and the real PostgreSQL that a measurement stands on, new and empty each time."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from consumers.sinks.storage.migrate import migrate
from ops.standalone import jars
from ops.standalone.kafka import LocalKafka
from ops.standalone.ports import free_ports
from ops.standalone.postgres import LocalPostgres
from ops.topics import apply
from schemas.topics import topic_specs

_START_S = 60


@asynccontextmanager
async def kafka(*consumers: str) -> AsyncIterator[str]:
    """Give the bootstrap servers of a broker with all topics that these consumers need."""
    ports = free_ports(["broker", "controller"])
    with tempfile.TemporaryDirectory(prefix="dial-results-bench-", ignore_cleanup_errors=True) as folder:
        server = LocalKafka(Path(folder), ports["broker"], ports["controller"], jars.classpath())
        await asyncio.to_thread(server.format)
        with _running(server.command(), signal.SIGTERM):
            await server.wait_ready(_START_S)
            await apply({"bootstrap_servers": server.bootstrap_servers}, topic_specs(1, consumers))
            yield server.bootstrap_servers


@asynccontextmanager
async def postgres() -> AsyncIterator[str]:
    """Give the DSN of a migrated database; fsync and synchronous_commit are on."""
    with tempfile.TemporaryDirectory(prefix="dial-results-bench-", ignore_cleanup_errors=True) as folder:
        server = LocalPostgres(Path(folder), free_ports(["any"])["any"], "made-up-password")
        await asyncio.to_thread(server.format)
        with _running(server.command(), signal.SIGINT):
            await server.wait_ready(_START_S)
            await migrate(server.dsn)
            yield server.dsn


@contextmanager
def _running(command: Sequence[str], end: signal.Signals) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(end)
        process.wait(_START_S)
