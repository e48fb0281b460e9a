"""The live topic as a source: where a time begins in each partition, and every record from there to a fixed end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.clients import BOUNDED_FETCH_WAIT_MS, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from aiokafka import ConsumerRecord

REQUEST_S = 10.0
_STOP_S = 2.0
_POLL_MS = 500

# A receiver whose clock is over an hour ahead has its records' Kafka times changed or left out, and `receivedAt` not:
# they stand before their time. This covers every mistaken time zone.
CLOCKS_AHEAD = timedelta(hours=14)


class Span(NamedTuple):
    """Of one partition, from `begin` up to before `end`."""

    begin: int
    end: int


class Lot(NamedTuple):
    """Consecutive records of one partition; everything before `next_offset` is read with them."""

    partition: int
    records: Sequence[ConsumerRecord[bytes | None, bytes | None]]
    next_offset: int


@asynccontextmanager
async def reader(options: Mapping[str, Any], max_records: int = 2_000) -> AsyncIterator[AIOKafkaConsumer]:
    """Give a client without a group: it leaves no trace in the cluster.

    Raises:
        KafkaError, OSError, TimeoutError: Kafka cannot be reached.
    """
    client = AIOKafkaConsumer(
        **options,
        client_id="dial-results-replay",
        enable_auto_commit=False,
        auto_offset_reset="none",  # what retention has taken is said, not skipped
        max_poll_records=max_records,
        fetch_max_bytes=16_000_000,
        max_partition_fetch_bytes=2_000_000,
        fetch_max_wait_ms=BOUNDED_FETCH_WAIT_MS,
        request_timeout_ms=int(REQUEST_S * 1_000),
        retry_backoff_ms=50,  # the first question of a topic that the client does not know yet waits for so long
    )
    async with started(client, REQUEST_S, _STOP_S):
        await asyncio.sleep(0)  # aiokafka 0.14 cannot be stopped before the tasks that it started have had a turn
        yield client


async def spans(client: AIOKafkaConsumer, where: Sequence[TopicPartition], since: datetime | None) -> dict[int, Span]:
    """Find, by the offsets alone, what is to be read of each partition now.

    Nothing that was received at `since` or later stands before a begin, and much that is older may stand behind it.
    """
    first = await client.beginning_offsets(list(where))
    ends = await client.end_offsets(list(where))
    begins = dict(first)
    if since is not None:
        found = await client.offsets_for_times(dict.fromkeys(where, int((since - CLOCKS_AHEAD).timestamp() * 1_000)))
        begins = {place: found[place].offset if found.get(place) else ends[place] for place in where}
        begins |= {place: first[place] for place in await _untimed(client, begins, first, ends)}
    return {place.partition: Span(min(begins[place], ends[place]), ends[place]) for place in where}


async def _untimed(
    client: AIOKafkaConsumer,
    begins: Mapping[TopicPartition, int],
    first: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> list[TopicPartition]:
    """Return the partitions whose last record before the begin has no time of Kafka's: there its index says nothing."""
    wanted = {place: offset - 1 for place, offset in begins.items() if offset > first[place]}
    untimed: list[TopicPartition] = []
    client.assign(list(wanted))
    for place, offset in wanted.items():
        client.seek(place, offset)
    while wanted:
        fetched = await client.getmany(*wanted, timeout_ms=_POLL_MS, max_records=len(wanted))
        untimed += [place for place, records in fetched.items() if records[0].timestamp < 0]
        for place in [place for place in wanted if place in fetched or await client.position(place) >= ends[place]]:
            client.pause(place)
            del wanted[place]
    return untimed


async def read(client: AIOKafkaConsumer, topic: str, wanted: Mapping[int, Span]) -> AsyncIterator[Lot]:
    """Yield everything of the spans that is still there, each partition in its order.

    Raises:
        OffsetOutOfRangeError: retention has taken what was to come next.
        KafkaError: Kafka refuses, for a reason that the client does not mend.
    """
    open_ = {TopicPartition(topic, number): span.end for number, span in wanted.items() if span.begin < span.end}
    if not open_:
        return
    client.assign(list(open_))
    first = await client.beginning_offsets(list(open_))
    for place in open_:
        client.seek(place, max(first[place], wanted[place.partition].begin))
    while open_:
        fetched = await client.getmany(*open_, timeout_ms=_POLL_MS)
        for place, records in fetched.items():
            end = open_[place]
            within = records if records[-1].offset < end else [one for one in records if one.offset < end]
            yield Lot(place.partition, within, min(records[-1].offset + 1, end))
        # A position may pass an end without a record: markers of transactions take offsets too.
        done = [place for place, end in open_.items() if await client.position(place) >= end]
        for place in done:
            client.pause(place)
            del open_[place]
