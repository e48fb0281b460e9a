"""How the consumer reaches Kafka: its clients, with the reasons for their options, and the check of its topics."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import GroupCoordinatorNotAvailableError

from consumers.errors import TopicsUnfit
from schemas import topics
from schemas.clients import started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiokafka import TopicPartition

REQUEST_S = 10.0
"""Time for one request of ours: several of the client's methods have no limit of their own."""

LET_GO_S = 30.0
"""How long a rebalance waits for the write in progress; who has the partitions next would write the same again."""

MAX_POLL_S = 300.0
"""aiokafka leaves the group when nobody polled for so long; the fetcher polls every second, whatever the sink does."""

_STOP_S = 1.5
_RETRY_S = 0.2
_READ_WAIT_MS = 100  # a broker answers a connection's requests in turn: another one waits for so long
# A broker and a partition of it; with what the buffer holds, this bounds the memory. aiokafka copies an answer several
# times on its way: of 1 MB that happens in the processor's cache, of 8 MB it costs a tenth of the loop's time.
_FETCH_BYTES = 1_000_000
_PARTITION_BYTES = 250_000  # one larger record (2 MB at most) is still fetched, alone


async def check_topics(kafka_options: Mapping[str, Any], consumer: str) -> None:
    """Look whether the topics that this consumer reads and writes are there and fit together.

    Raises:
        TopicsUnfit: one is missing, or the replay topic has another number of partitions than the live one.
        KafkaError, TimeoutError: Kafka cannot be asked.
    """
    wanted = (topics.DIAL_RESULTS, topics.replay(consumer), topics.dead_letter(consumer), topics.erased())
    found = await partitions(kafka_options)
    if missing := [topic for topic in wanted if topic not in found]:
        raise TopicsUnfit(f"topics are missing: {', '.join(missing)}; `dial-results topics apply` makes them")
    live, replay = found[wanted[0]], found[wanted[1]]
    if live != replay:
        raise TopicsUnfit(
            f"{wanted[0]} has {live} partitions and {wanted[1]} {replay}: both need the same number, so that a "
            "contact's live and replayed results go to the same process"
        )


async def partitions(kafka_options: Mapping[str, Any]) -> dict[str, int]:
    """Return every topic with its number of partitions. Raises KafkaError, TimeoutError."""
    admin = AIOKafkaAdminClient(**kafka_options, request_timeout_ms=int(REQUEST_S * 1_000))
    async with asyncio.timeout(REQUEST_S), started(admin, REQUEST_S, _STOP_S):
        # All topics: asking for one by name would create it on a broker that creates topics by itself.
        described = await admin.describe_topics()
    return {topic["topic"]: len(topic["partitions"]) for topic in described}


async def committed(kafka_options: Mapping[str, Any], consumer: str) -> dict[TopicPartition, int]:
    """Return where a consumer's group stands; what it never committed is left out. Raises KafkaError, TimeoutError."""
    admin = AIOKafkaAdminClient(**kafka_options, request_timeout_ms=int(REQUEST_S * 1_000))
    async with asyncio.timeout(REQUEST_S), started(admin, REQUEST_S, _STOP_S):
        while True:
            try:
                offsets = await admin.list_consumer_group_offsets(topics.group(consumer))
                break
            except GroupCoordinatorNotAvailableError:  # a new broker, which makes its topic of groups just now
                await asyncio.sleep(_RETRY_S)
    return {place: found.offset for place, found in offsets.items() if found.offset >= 0}


@asynccontextmanager
async def consuming(
    kafka_options: Mapping[str, Any], consumer: str, session_timeout_s: float
) -> AsyncIterator[AIOKafkaConsumer]:
    """Give a started client that has not subscribed yet; leave the group on exit, within 1.5 s.

    Raises:
        KafkaError, TimeoutError: Kafka cannot be reached.
    """
    client = AIOKafkaConsumer(
        **kafka_options,
        group_id=topics.group(consumer),
        client_id=topics.group(consumer),
        enable_auto_commit=False,  # offsets are committed when the work is done, and no others
        auto_offset_reset="earliest",  # a new consumer has everything to do
        # Partition N of the live and the replay topic go to the same member.
        partition_assignment_strategy=[RangePartitionAssignor],
        session_timeout_ms=int(session_timeout_s * 1_000),
        heartbeat_interval_ms=int(session_timeout_s * 1_000 / 5),
        max_poll_interval_ms=int(MAX_POLL_S * 1_000),
        rebalance_timeout_ms=int(2 * LET_GO_S * 1_000),
        request_timeout_ms=int(REQUEST_S * 1_000),
        retry_backoff_ms=500,
        fetch_max_bytes=_FETCH_BYTES,
        max_partition_fetch_bytes=_PARTITION_BYTES,
    )
    async with started(client, REQUEST_S, _STOP_S):  # where Kafka is away at the end, the group notices by itself
        yield client


@asynccontextmanager
async def reading(kafka_options: Mapping[str, Any], consumer: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Give a started client without a group, for a topic that every process reads whole.

    Raises:
        KafkaError, TimeoutError: Kafka cannot be reached.
    """
    client = AIOKafkaConsumer(
        **kafka_options,
        client_id=topics.group(consumer),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=_READ_WAIT_MS,
        request_timeout_ms=int(REQUEST_S * 1_000),
        retry_backoff_ms=500,
    )
    async with started(client, REQUEST_S, _STOP_S):
        yield client


@asynccontextmanager
async def producing(kafka_options: Mapping[str, Any], consumer: str) -> AsyncIterator[AIOKafkaProducer]:
    """Give a started producer for dead letters.

    Raises:
        KafkaError, TimeoutError: Kafka cannot be reached.
    """
    client = AIOKafkaProducer(
        **kafka_options,
        client_id=topics.group(consumer),
        acks="all",
        enable_idempotence=False,  # with it a batch never expires while Kafka is away; doubles are harmless here
        request_timeout_ms=8_000,
        retry_backoff_ms=500,
        max_request_size=2 * topics.MAX_RECORD_BYTES,  # the record and our headers; the broker's limit is what counts
    )
    async with started(client, REQUEST_S, _STOP_S):  # where Kafka is away at the end, the group notices by itself
        yield client
