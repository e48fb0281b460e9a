"""The copy: records into another topic, partition by partition, in order, no faster than asked."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaProducer

from schemas import topics
from schemas.clients import started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from aiokafka import ConsumerRecord

REQUEST_S = 10.0
_STOP_S = 2.0
_DELIVER_S = 60.0  # an election and the client's own repeats fit; then the job stops, and can be resumed
_BATCH_BYTES = 512 * 1024

ORIGIN = (topics.REPLAY_ID, topics.ORIGINAL_TOPIC, topics.ORIGINAL_PARTITION, topics.ORIGINAL_OFFSET)


class Copy(NamedTuple):
    """A record as it goes out, to the target's partition of that number."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp_ms: int


def copy_of(record: ConsumerRecord[bytes | None, bytes | None], replay_id: bytes, topic: bytes) -> Copy:
    """Copy a record of the live topic: key, value, headers and time as they are, and where it came from."""
    kept = [one for one in record.headers if one[0] not in ORIGIN]
    kept += [
        (topics.REPLAY_ID, replay_id),
        (topics.ORIGINAL_TOPIC, topic),
        (topics.ORIGINAL_PARTITION, b"%d" % record.partition),
        (topics.ORIGINAL_OFFSET, b"%d" % record.offset),
    ]
    return Copy(record.partition, record.key, record.value, kept, record.timestamp)


class Copier:
    """Sends without waiting for each batch; `settled` waits for all of them."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, partition: Callable[[Copy], int] | None = None) -> None:
        self._producer = producer
        self._topic = topic
        self._partition = partition
        self._under_way: list[asyncio.Future[Any]] = []

    async def send(self, copies: Iterable[Copy]) -> None:
        """Send in this order. Raises KafkaError, TimeoutError."""
        builders: dict[int, Any] = {}
        for copy in copies:
            place = self._partition(copy) if self._partition else copy.partition
            if place not in builders:
                builders[place] = self._producer.create_batch()
            if not _add(builders[place], copy):
                await self._dispatch(place, builders[place])
                builders[place] = self._producer.create_batch()
                _add(builders[place], copy)
        for place, builder in builders.items():
            await self._dispatch(place, builder)

    async def settled(self) -> None:
        """Return when all replicas have everything. Raises KafkaError, TimeoutError: some may be written, or not."""
        async with asyncio.timeout(_DELIVER_S):
            await asyncio.gather(*self._under_way)
        self._under_way.clear()

    async def _dispatch(self, partition: int, builder: Any) -> None:  # noqa: ANN401  # aiokafka ships no types
        async with asyncio.timeout(_DELIVER_S):
            answer = await self._producer.send_batch(builder, self._topic, partition=partition)
        answer.add_done_callback(_seen)
        self._under_way.append(answer)


class Pace:
    """Keeps to so many records a second; 0: no limit. What was missed in a stall is not made up for at once."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._due_s = time.monotonic()

    @property
    def portion(self) -> int:
        """How many records to take at a time."""
        return 2_000 if not self._rate else max(1, min(2_000, self._rate // 20))

    async def wait(self, count: int) -> None:
        """Wait until so many more may follow."""
        if self._rate:
            now_s = time.monotonic()
            self._due_s = max(self._due_s, now_s - 1.0) + count / self._rate
            await asyncio.sleep(max(0.0, self._due_s - now_s))


@asynccontextmanager
async def copying(options: Mapping[str, Any]) -> AsyncIterator[AIOKafkaProducer]:
    """Give a producer for copies. Raises KafkaError, OSError, TimeoutError: Kafka cannot be reached."""
    producer = AIOKafkaProducer(
        **options,
        client_id="dial-results-replay",
        acks="all",
        enable_idempotence=False,  # with it batches never expire; doubles are harmless by event id
        max_batch_size=_BATCH_BYTES,
        max_request_size=4 * topics.MAX_RECORD_BYTES,
        request_timeout_ms=int(REQUEST_S * 1_000),
        retry_backoff_ms=500,
    )
    async with started(producer, REQUEST_S, _STOP_S):
        yield producer


def _add(builder: Any, copy: Copy) -> bool:  # noqa: ANN401
    added = builder.append(timestamp=copy.timestamp_ms, key=copy.key, value=copy.value, headers=copy.headers)
    return added is not None


def _seen(answer: asyncio.Future[Any]) -> None:
    """Take an exception that is nobody's any more: the job has stopped."""
    if not answer.cancelled():
        answer.exception()
