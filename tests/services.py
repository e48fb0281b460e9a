"""The real parts that tests stand on: one broker and one database server a run, started when first asked for."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from ops.standalone import jars
from ops.standalone.kafka import LocalKafka
from ops.standalone.ports import free_ports
from ops.standalone.postgres import LocalPostgres

START_S = 120


def free_port() -> int:
    return free_ports(["any"])["any"]


def docker_answers() -> bool:
    """Tell whether a Docker daemon (not just its client) is there."""
    client = shutil.which("docker")
    if client is None:
        return False
    command = [client, "version", "--format", "{{.Server.Version}}"]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run to its end in a thread of its own: the test's own event loop is not touched."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


class Broker:
    """Our own local Kafka, which a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        self._kafka = LocalKafka(folder, free_port(), free_port(), jars.classpath())
        self._log = folder / "kafka.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        return self._kafka.bootstrap_servers

    def start(self) -> None:
        self._kafka.format()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._kafka.command(), stdout=log, stderr=log)
        run(self._kafka.wait_ready(START_S))

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it at once, and wait until it is gone."""
        if self._process:
            self._process.kill()
            self._process.wait(START_S)


@pytest.fixture(scope="session")
def broker() -> Iterator[object]:
    """A real Kafka; attribute `bootstrap_servers`."""
    if docker_answers():
        from testcontainers.community.kafka import KafkaContainer  # noqa: PLC0415

        with KafkaContainer().with_env("KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS", "1000") as container:
            container.bootstrap_servers = container.get_bootstrap_server()
            yield container
        return
    yield from _local_broker()


@pytest.fixture(scope="module")
def own_broker() -> Iterator[Broker]:
    """A broker for a test that kills it; always our own."""
    yield from _local_broker()


def _local_broker() -> Iterator[Broker]:
    with _folder() as folder:
        broker = Broker(folder)
        try:
            broker.start()
            yield broker
        finally:
            broker.kill()  # nobody needs its data: a clean end takes seconds


class Database:
    """A PostgreSQL server; each test takes a fresh database of it."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    def fresh_database(self) -> str:
        """Create an empty database and return its DSN."""
        return run(self._create(f"test_{uuid.uuid4().hex[:12]}"))

    async def _create(self, name: str) -> str:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()
        return self.dsn.rpartition("/")[0] + f"/{name}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Database]:
    """A real PostgreSQL; attribute `dsn`, method `fresh_database()`."""
    if docker_answers():
        from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415

        with PostgresContainer("postgres:18") as container:
            yield Database(container.get_connection_url(driver=None))
        return
    with _folder() as folder:
        server = LocalPostgres(folder, free_port(), "made-up-password")
        server.format()
        with (folder / "postgres.log").open("ab") as log:
            process = subprocess.Popen(server.command(), stdout=log, stderr=log)
        try:
            run(server.wait_ready(START_S))
            yield Database(server.dsn)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(START_S)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="dial-results-test-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def create_topics(bootstrap_servers: str, **partitions: int) -> None:
    """Create topics of these names; underscores stand for hyphens."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        config = {"max.message.bytes": str(2 * 1024 * 1024), "retention.ms": "-1"}  # whatever time records have
        topics = [
            NewTopic(name.replace("_", "-"), count, 1, topic_configs=config) for name, count in partitions.items()
        ]
        await admin.create_topics(topics)
    finally:
        await admin.close()
