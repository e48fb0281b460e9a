"""A benchmark's broker: it can be stopped, paused, started again, and has a second door whose answers are slow."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from ops.standalone import jars
from ops.standalone.kafka import LocalKafka
from schemas.topics import topic_specs

from .load import free_port

logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a broker that starts, or is stopped on purpose, is no news
READY_S = 60
SETTLE_S = 3.0  # a fresh broker still compiles itself, on the load generator's core
SLOW_S = 0.5  # by how much each answer of the slow door comes late


class BenchBroker:
    """A real broker as a process. `slow_servers` is the door through a proxy that holds each answer back."""

    def __init__(self, folder: Path) -> None:
        self._kafka = LocalKafka(folder, free_port(), free_port(), jars.classpath())
        self._inner_port, self._door_port = free_port(), free_port()
        self._kafka.format()
        self._add_door(folder / "server.properties")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def servers(self) -> str:
        return self._kafka.bootstrap_servers

    @property
    def slow_servers(self) -> str:
        return f"127.0.0.1:{self._door_port}"

    async def start(self) -> None:
        self._process = subprocess.Popen(  # noqa: ASYNC220
            self._kafka.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await self._kafka.wait_ready(READY_S)

    def stop(self) -> None:
        """At once, as if its machine had gone: the connections are closed, and nobody listens any more."""
        if self._process:
            self._process.kill()
            self._process.wait(30)

    def pause(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def door(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._through, "127.0.0.1", self._door_port):
            yield

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):  # cancelled by the loop's end: there is nobody left to tell
            broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self._inner_port)
            await asyncio.gather(_pass_on(reader, broker_writer, 0), _pass_on(broker_reader, writer, SLOW_S))

    def _add_door(self, properties: Path) -> None:
        text = properties.read_text()
        for key, more in {
            "\nlisteners": f"SLOW://127.0.0.1:{self._inner_port}",
            "\nadvertised.listeners": f"SLOW://127.0.0.1:{self._door_port}",
            "\nlistener.security.protocol.map": "SLOW:PLAINTEXT",
        }.items():
            text = text.replace(f"{key}=", f"{key}={more},")
        properties.write_text(text)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    try:
        while data := await reader.read(65_536):
            await asyncio.sleep(delay_s)
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def running_broker(folder: Path) -> AsyncIterator[BenchBroker]:
    """Run a broker with every topic that a benchmark needs."""
    broker = BenchBroker(folder)
    try:
        await broker.start()
        await _create_topics(broker.servers)
        await asyncio.sleep(SETTLE_S)
        yield broker
    finally:
        broker.stop()


async def _create_topics(kafka: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        ours = [NewTopic(spec.name, spec.partitions, 1, topic_configs=spec.config) for spec in topic_specs(1)]
        await admin.create_topics([*ours, NewTopic("bench-usual", 12, 1), NewTopic("bench-go", 12, 1)])
    finally:
        await admin.close()


async def count(kafka: str, topic: str | None) -> int:
    """Return how many records were ever written to the topic."""
    if topic is None:
        return 0
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, partition) for partition in range(12)])
    finally:
        await consumer.stop()
    return sum(ends.values())
