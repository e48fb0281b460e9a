"""A sink with a script of faults, and what a test of the delivery loop needs around it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from consumers.buffer import Buffer
from consumers.consumer import Consumer, Destination
from consumers.metrics import Metrics
from consumers.received import Received
from consumers.settings import ConsumerSettings
from consumers.sink import Batching, Delivery, EventsRejected, SinkUnavailable
from schemas import topics, wire
from schemas.blu import BluRecord
from schemas.erasure import Erasure, encode
from schemas.event import DialResult, dial_result
from schemas.exact import canonical

PARTITIONS = 3
LIMIT_S = 120.0


class Memory:
    """A destination that several sinks may write to. `gate` shut: a write waits; `away` set: it is unavailable."""

    def __init__(self) -> None:
        self.effects: list[str] = []
        self.deliveries: list[Delivery] = []
        self.erasures: list[str] = []
        self.called_at: list[float] = []
        self.sizes: list[int] = []
        self.away: SinkUnavailable | None = None
        self.bug: Exception | None = None
        self.bad: Callable[[DialResult], bool] = lambda _: False
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Event()

    @property
    def calls(self) -> int:
        return len(self.called_at)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Memory]:
        yield self

    async def write(self, deliveries: Sequence[Delivery]) -> None:
        self.called_at.append(asyncio.get_running_loop().time())
        self.sizes.append(len(deliveries))
        if self.away:
            raise self.away
        if self.bug:
            raise self.bug
        self.waiting.set()
        await self.gate.wait()
        self.waiting.clear()
        self.deliveries += deliveries
        known = set(self.effects)
        fresh = {one.event.event_id: one.event for one in deliveries if one.event.event_id not in known}
        bad = {event_id: "too-bad" for event_id, event in fresh.items() if self.bad(event)}
        self.effects += [event_id for event_id in fresh if event_id not in bad]
        if bad:
            raise EventsRejected(bad)

    async def erase(self, merchant: str, record_id: str) -> str:
        if self.away:
            raise self.away
        key = f"{merchant}:{record_id}".encode()
        gone = {one.event.event_id for one in self.deliveries if one.event.key == key}
        self.effects = [event_id for event_id in self.effects if event_id not in gone]
        self.erasures.append(record_id)
        return ""


def event(number: int, text: str = "") -> DialResult:
    content = canonical({"id": number, "text": text})
    return dial_result("demo", "1", BluRecord(0, str(number), content), int(time.time() * 1000))


class Kafka:
    """Topics of this test's own, and what happens in them."""

    def __init__(self, bootstrap_servers: str, producer: AIOKafkaProducer) -> None:
        self.bootstrap_servers = bootstrap_servers
        self._producer = producer

    async def publish(self, events: Iterable[DialResult], topic: str | None = None, **headers: str) -> list[Any]:
        """Return where each one stands, as the broker says."""
        extra = [(name.replace("_", "-"), value.encode()) for name, value in headers.items()]
        sent = []
        for one in events:
            record = wire.encode(one)
            place = {"timestamp_ms": record.timestamp_ms, "headers": record.headers + extra}
            sent.append(
                await self._producer.send(topic or topics.DIAL_RESULTS, key=record.key, value=record.value, **place)
            )
        return await asyncio.gather(*sent)

    async def erase(self, record_id: str) -> str:
        """Ask for a contact of `demo` to be erased; return the erasure's id."""
        key = f"demo:{record_id}".encode()
        one = Erasure(key, str(uuid.uuid4()), "a-test", datetime.now(UTC))
        await self._producer.send_and_wait(topics.erased(), key=key, value=encode(one), partition=0)
        return one.erasure_id

    async def publish_raw(self, value: bytes | None, topic: str | None = None, **more: Any) -> Any:
        return await self._producer.send_and_wait(topic or topics.DIAL_RESULTS, value=value, **more)

    async def publish_as_other_clients_may(self, value: bytes | None, timestamp_ms: int, headers: list[Any]) -> None:
        """Send to partition 0, without a key, and without a value if None: aiokafka's own `send` refuses that."""
        batch = self._producer.create_batch()
        assert batch.append(key=None, value=value, timestamp=timestamp_ms, headers=headers)
        await (await self._producer.send_batch(batch, topics.DIAL_RESULTS, partition=0))

    async def publish_events_in_one_partition(self, count: int, first: int = 0) -> None:
        for one in map(event, range(first, first + count)):
            await self.publish_raw(wire.encode(one).value, partition=0)

    async def create_topic(self, name: str, partitions: int) -> None:
        await create(self.bootstrap_servers, name, partitions=partitions)

    async def committed(self, consumer: str) -> dict[tuple[str, int], int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        await admin.start()
        try:
            offsets = await admin.list_consumer_group_offsets(topics.group(consumer))
        finally:
            await admin.close()
        return {tuple(place): found.offset for place, found in offsets.items() if found.offset >= 0}

    async def delete_records(self, partition: int, before: int) -> None:
        """Do to a partition of the live topic what its retention does in time."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        await admin.start()
        try:
            place = TopicPartition(topics.DIAL_RESULTS, partition)
            await admin.delete_records({place: RecordsToDelete(before_offset=before)})
        finally:
            await admin.close()

    async def ends(self, topic: str | None = None) -> dict[tuple[str, int], int]:
        async with self._reader() as reader:
            name = topic or topics.DIAL_RESULTS
            places = [TopicPartition(name, number) for number in range(PARTITIONS)]
            return {tuple(place): end for place, end in (await reader.end_offsets(places)).items() if end}

    async def read(self, topic: str, count: int) -> list[Any]:
        """Read a topic from its beginning until so many records came."""
        async with self._reader() as reader:
            reader.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
            await reader.seek_to_beginning()
            records: list[Any] = []
            async with asyncio.timeout(LIMIT_S):
                while len(records) < count:
                    for found in (await reader.getmany(timeout_ms=100)).values():
                        records += found
            return records

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[AIOKafkaConsumer]:
        reader = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap_servers, auto_offset_reset="earliest", fetch_max_wait_ms=20
        )
        await reader.start()
        try:
            yield reader
        finally:
            await reader.stop()


@asynccontextmanager
async def own_topics(bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch, *consumers: str) -> AsyncIterator[Kafka]:
    """Create topics under names of this test's own, and let `schemas.topics` name those."""
    monkeypatch.setattr(topics, "DIAL_RESULTS", f"dial-results-{uuid.uuid4().hex[:12]}")
    sides = [name(one) for one in consumers or ("memory",) for name in (topics.replay, topics.dead_letter)]
    await create(bootstrap_servers, topics.DIAL_RESULTS, *sides)
    await create(bootstrap_servers, topics.erased(), partitions=1)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", max_request_size=4 << 20)
    await producer.start()
    try:
        yield Kafka(bootstrap_servers, producer)
    finally:
        await producer.stop()


async def create(bootstrap_servers: str, *names: str, partitions: int = PARTITIONS) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        # Some tests write records of years ago, which Kafka deletes whenever it looks: every five minutes.
        config = {"max.message.bytes": str(topics.MAX_RECORD_BYTES), "retention.ms": "-1"}
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config) for name in names])
        async with asyncio.timeout(LIMIT_S):
            while not set(names) <= set(await admin.list_topics()):
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


class Running:
    """A consumer at work in this process."""

    def __init__(self, kafka: Kafka, sink: Any, name: str = "memory", **settings: Any) -> None:
        batching = Batching(max_events=settings.pop("max_events", 500))
        destination = Destination(name, sink.connect, batching, "1.2.3", settings.pop("receipts", None))
        quick = {"reject_hold_s": 0.2} | settings
        self.metrics = Metrics(name)
        options = {"bootstrap_servers": kafka.bootstrap_servers}
        self.consumer = Consumer(destination, ConsumerSettings(**quick), options, self.metrics)
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(self.consumer.run(self.stop))

    @property
    def status(self) -> Any:
        return self.consumer.status

    @property
    def joins(self) -> int:
        """How often it was given partitions, or let go of them."""
        return self.consumer._tenure.number


@asynccontextmanager
async def running(kafka: Kafka, sink: Any, **settings: Any) -> AsyncIterator[Running]:
    """Run a consumer; on leaving it has to have stopped cleanly, unless the test saw it end."""
    one = Running(kafka, sink, **settings)
    seen = False
    try:
        yield one
        seen = one.task.done()
        one.stop.set()
        if not seen:
            async with asyncio.timeout(60):
                await one.task
    finally:
        if not one.task.done():
            one.task.cancel()
            with suppress(asyncio.CancelledError):
                await one.task


@contextlib.contextmanager
def live_ones_held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Let live records come behind all replayed ones, as a slow fetch may: they wait until the given is called."""
    held: list[tuple[Buffer, Sequence[Received]]] | None = []
    add = Buffer.add

    def add_or_hold(buffer: Buffer, received: Sequence[Received]) -> None:
        if held is not None and received and received[0].record.topic == topics.DIAL_RESULTS:
            held.append((buffer, received))
        else:
            add(buffer, received)

    def let_go() -> None:
        nonlocal held
        waiting, held = held or [], None
        for buffer, received in waiting:
            add(buffer, received)

    with monkeypatch.context() as patch:
        patch.setattr(Buffer, "add", add_or_hold)
        yield let_go


async def until(condition: Callable[[], Any], limit_s: float = LIMIT_S, watched: Running | None = None) -> None:
    """Wait until the condition holds. Fails at once where the consumer ended."""
    async with asyncio.timeout(limit_s):
        while not condition():
            if watched and watched.task.done():
                watched.task.result()
                raise AssertionError("the consumer stopped")
            await asyncio.sleep(0.02)


async def until_committed(
    kafka: Kafka, consumer: str = "memory", topic: str | None = None, limit_s: float = LIMIT_S
) -> None:
    """Wait until the group has committed everything that stands in the topic."""
    ends = await kafka.ends(topic)
    async with asyncio.timeout(limit_s):
        while not ends.items() <= (await kafka.committed(consumer)).items():
            await asyncio.sleep(0.1)


def process(
    kafka: Kafka, sink: str, *arguments: str, sinks: Path | None = None, log: Path | None = None, **environment: str
) -> subprocess.Popen[bytes]:
    """Start `python -m consumers SINK` on this test's topics; `sinks` is a folder with a sink of this test's own."""
    names = f"import runpy; from schemas import topics; topics.DIAL_RESULTS = {topics.DIAL_RESULTS!r}"
    if sinks:
        names += f"; from consumers import sinks; sinks.__path__.append({str(sinks)!r})"
    run = f"{names}; runpy.run_module('consumers', run_name='__main__', alter_sys=True)"
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "CONSUMER_ADMIN_PORT": "0",
        "CONSUMER_SESSION_TIMEOUT_S": "2",
    }
    output: Any = log.open("ab") if log else contextlib.nullcontext(subprocess.PIPE)
    with output as written:
        return subprocess.Popen(
            [sys.executable, "-c", run, sink, *arguments],
            env=os.environ | settings | environment,
            stdout=written,
            stderr=written,
        )


async def ended(one: subprocess.Popen[bytes], limit_s: float = LIMIT_S) -> tuple[int, str, list[dict[str, Any]]]:
    """Wait for its end; return exit code, standard output, and its log lines."""
    try:
        out, err = await asyncio.to_thread(one.communicate, timeout=limit_s)
    finally:
        one.kill()
    lines = err.decode().splitlines()
    return one.returncode, out.decode(), [json.loads(line) for line in lines if line.startswith("{")]
