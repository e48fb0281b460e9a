"""Many realistic events in Kafka, fast: the simulator's records under ever new ids, in raw batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

from aiokafka import AIOKafkaProducer

from ops.blu.bodies import callbacks
from schemas import topics, wire
from schemas.blu import BluRecord
from schemas.event import DialResult, dial_result

MERCHANT = "demo"
_TEMPLATES = 1_000
_CALLS_PER_TASK = 300
_RECORDS_FROM = 5 * 10**12
_BATCH_BYTES = 512 * 1024


def results(
    count: int,
    *,
    first: int = 0,
    contacts: int | None = None,
    per_second: float = 1_000,
    seed: int = 1,
    more_bytes: int = 0,
) -> Iterator[DialResult]:
    """Yield `count` different results (about 500 bytes of record each), the last received now.

    Number `n` is always of the same contact and task and says the same, so that a later part does not repeat an
    earlier one; `contacts` lets the results go round among so few (each call in another task), None: each its own;
    `more_bytes` makes each longer, by a field of its own.
    """
    day = datetime.now(UTC).date()
    longer = b',"zNote":"%b"}' % (b"made up " * (more_bytes // 8)) if more_bytes else b"}"
    known = [
        (call.record_id.encode(), call.canonical[:-1] + longer)
        for call in callbacks(seed, day, ZoneInfo("UTC"), _TEMPLATES)
    ]
    round_ = contacts or 10**12
    start_ms = int((time.time() - count / per_second) * 1_000)
    for number in range(first, first + count):
        old_id, content = known[number % _TEMPLATES]
        record_id = str(_RECORDS_FROM + number % round_)
        task_id = str(10**13 + number // min(round_, _CALLS_PER_TASK))
        record = BluRecord(0, record_id, content.replace(old_id, record_id.encode()))
        yield dial_result(MERCHANT, task_id, record, start_ms + int((number - first) * 1_000 / per_second))


async def fill(bootstrap_servers: str, events: Iterable[DialResult], topic: str = topics.DIAL_RESULTS) -> int:
    """Publish events into our topic's partitions, as the receiver does; return how many. Some 50,000 a second."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, acks="all", max_batch_size=_BATCH_BYTES, max_request_size=2 << 20
    )
    await producer.start()
    try:
        count, source = 0, iter(events)
        while some := list(islice(source, 20_000)):
            await _send(producer, topic, some)
            count += len(some)
        return count
    finally:
        await producer.stop()


async def _send(producer: AIOKafkaProducer, topic: str, events: list[DialResult]) -> None:
    partitions: dict[int, list[wire.KafkaRecord]] = {}
    for record in map(wire.encode, events):
        partitions.setdefault(topics.partition_of(record.key, topics.PARTITIONS), []).append(record)
    sent = [
        await producer.send_batch(batch, topic, partition=partition)
        for partition, records in partitions.items()
        for batch in _batches(producer, records)
    ]
    await asyncio.gather(*sent)


def _batches(producer: AIOKafkaProducer, records: Iterable[wire.KafkaRecord]) -> Iterator[object]:
    batch = producer.create_batch()
    for record in records:
        while not batch.append(
            key=record.key, value=record.value, timestamp=record.timestamp_ms, headers=record.headers
        ):
            assert batch.record_count(), "a record fits into an empty batch"
            yield batch
            batch = producer.create_batch()
    yield batch
