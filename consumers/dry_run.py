"""`--dry-run`: reads what a consumer still has to do, and prints what its sink would send. Commits nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from consumers import broker
from consumers.broker import REQUEST_S
from consumers.received import receive
from schemas import topics
from schemas.clients import BOUNDED_FETCH_WAIT_MS, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from consumers.sink import Delivery

_STOP_S = 1.5
_POLL_MS = 500


class Preview(Protocol):
    """What a sink's optional `preview(settings, merchants)` gives, an async context manager."""

    async def lines(self, deliveries: Sequence[Delivery]) -> Sequence[str]:
        """Return what would be sent of one batch, a line each, personal data masked. Raises SinkUnavailable."""


async def dry_run(
    opening: AbstractAsyncContextManager[Preview], kafka_options: Mapping[str, Any], consumer: str, batch_events: int
) -> None:
    """Print the lines of all that stood in `dial-results` at the start and that the group has not committed.

    Raises:
        SinkUnavailable: what the sink looks things up in is away.
        KafkaError, TimeoutError: Kafka cannot be asked.
    """
    offsets = await broker.committed(kafka_options, consumer)
    async with opening as preview:
        async for deliveries in _batches(kafka_options, offsets, batch_events):
            for line in await preview.lines(deliveries):
                print(line)  # noqa: T201  # what was asked for


async def _batches(
    kafka_options: Mapping[str, Any], offsets: Mapping[TopicPartition, int], batch_events: int
) -> AsyncIterator[list[Delivery]]:
    """Give what is left of the live topic, without joining the group."""
    reader = AIOKafkaConsumer(
        **kafka_options,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=BOUNDED_FETCH_WAIT_MS,
        request_timeout_ms=int(REQUEST_S * 1_000),
    )
    async with started(reader, REQUEST_S, _STOP_S):
        count = (await broker.partitions(kafka_options)).get(topics.DIAL_RESULTS, 0)
        places = [TopicPartition(topics.DIAL_RESULTS, number) for number in range(count)]
        ends = await _positioned(reader, places, offsets)
        while behind := [place for place, end in ends.items() if await reader.position(place) < end]:
            found = await reader.getmany(*behind, timeout_ms=_POLL_MS, max_records=batch_events)
            received = [receive(record) for records in found.values() for record in records]
            if deliveries := [one.delivery for one in received if one.delivery]:
                yield deliveries


async def _positioned(
    reader: AIOKafkaConsumer, places: Sequence[TopicPartition], offsets: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """Go to where the group stands; return the ends."""
    reader.assign(places)
    for place in places:
        if place in offsets:
            reader.seek(place, offsets[place])
    return dict(await reader.end_offsets(places))
