"""The producer's client: made anew after every failure, never trusted with a wait that has no end.

Of aiokafka's ways (`docs/receiver.md` lists them): it never asks the bootstrap servers again, `start` may hang 40 s a
host, batches are dropped after `request_timeout_ms` but the answer may take twice as long, `stop` waits for them.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidTimestampError, KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from receiver.batch import first_batches
from receiver.outgoing import restamp
from receiver.produce import copy_once
from schemas import clients
from schemas.topics import DIAL_RESULTS, QUARANTINE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from receiver.batch import Batch
    from receiver.outgoing import Outgoing

copy_once()

TOPICS = (DIAL_RESULTS, QUARANTINE)
BATCH_BYTES = 1_000_000  # a topic with Kafka's own limit takes it (1,048,588), a subscriber fetches it whole
REQUEST_TIMEOUT_S = 8.0
_CONNECT_S = 10.0  # three hosts that refuse take milliseconds, one that swallows packets takes all of it
_ROUND_S = 2 * REQUEST_TIMEOUT_S + 4.0  # aiokafka may take twice its timeout to give a batch up
_STOP_S = 0.5  # its batches are in the journal: nothing is worth waiting for

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class NotDelivered(Exception):  # noqa: N818  # the broker's doing; the callbacks are fine
    """Something of the window is not acknowledged; `reason` is typed: `unreachable`, `topic-missing`, ..."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Broker:
    """A connected producer. Not to be used again once it raised NotDelivered."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    def partitions(self) -> dict[str, int]:
        """Return how many partitions each of our topics has now.

        Raises:
            NotDelivered: a topic does not exist. It is never asked for by name, which might create it.
        """
        cluster = self._producer.client.cluster
        found = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in TOPICS}
        if not all(found.values()):
            raise NotDelivered("topic-missing")
        return found

    async def send(self, waiting: Iterable[Outgoing]) -> list[Outgoing]:
        """Send one batch to each partition, of what is first for it; mark `done` what all replicas have.

        Whatever follows in that partition is for the next call, so nothing overtakes what was not acknowledged. Too
        large a batch of several is not taken: its records are marked `alone`, for the next call; one whose times are
        refused gets others. Returns records that are too large alone.

        Raises:
            NotDelivered: something is not acknowledged. It may have been written all the same.
        """
        batches = first_batches(waiting, self.partitions(), self._producer.create_batch)
        refused = {place: error for place, error in (await self._round(batches)).items() if error is not None}
        for place in batches.keys() - refused.keys():
            batches[place].acknowledged()
        return [outgoing for place, error in refused.items() for outgoing in _mended(batches[place], error)]

    async def _round(self, turn: Mapping[tuple[str, int], Batch]) -> dict[tuple[str, int], BaseException | None]:
        answers: list[asyncio.Future[Any]] = []
        try:
            async with asyncio.timeout(_ROUND_S):
                for (topic, partition), batch in turn.items():
                    answers.append(await self._producer.send_batch(batch.builder, topic, partition=partition))
                await asyncio.wait(answers)
        except TimeoutError:
            raise NotDelivered("timeout") from None
        except (KafkaError, AssertionError) as error:  # aiokafka asserts that the partition has not gone meanwhile
            raise NotDelivered(type(error).__name__) from None
        finally:
            for answer in answers:
                answer.add_done_callback(_forget)
        return {place: answer.exception() for place, answer in zip(turn, answers, strict=True)}


@asynccontextmanager
async def connected(options: Mapping[str, Any]) -> AsyncIterator[Broker]:
    """Connect a fresh client, from the bootstrap servers up, and throw it away at the end.

    Raises:
        NotDelivered: no broker answers, or none lets us in.
    """
    producer = AIOKafkaProducer(
        **options,
        acks="all",
        enable_idempotence=False,  # with it batches never expire, and one refusal wedges a partition for ever
        linger_ms=0,
        max_batch_size=BATCH_BYTES,
        request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
        retry_backoff_ms=1_000,
    )
    try:
        await _start(producer)
        yield Broker(producer)
    finally:
        await _discard(producer)


async def _start(producer: AIOKafkaProducer) -> None:
    try:
        await clients.start(producer, _CONNECT_S)
        async with asyncio.timeout(_CONNECT_S):
            # Of all topics: asking for one by name creates it where the broker allows that.
            known = await producer.client.force_metadata_update()
    except (KafkaError, OSError, TimeoutError):
        known = False
    if not known:
        raise NotDelivered("unreachable")


async def _discard(producer: AIOKafkaProducer) -> None:
    """Close the client within half a second, whatever it waits for, or at once when cancelled."""
    producer._message_accumulator.fail_all(KafkaError("abandoned"))  # noqa: SLF001  # or `stop` waits for them for ever
    await clients.stop(producer, _STOP_S)


def now_ms() -> int:
    """Return our clock's time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _forget(answer: asyncio.Future[Any]) -> None:
    """Take an exception that is nobody's any more. To cancel the answer instead would leave aiokafka's own untaken."""
    if not answer.cancelled():
        answer.exception()


def _mended(batch: Batch, error: BaseException) -> list[Outgoing]:
    """Prepare what is refused for the next try. Raises NotDelivered where it is not the records' fault."""
    if isinstance(error, InvalidTimestampError) and restamp(batch.outgoing, now_ms()):
        return []
    if not isinstance(error, _TOO_LARGE):
        raise NotDelivered(type(error).__name__)
    if len(batch.outgoing) == 1:
        return batch.outgoing
    for outgoing in batch.outgoing:
        outgoing.alone = True
    return []
