"""Parts of a topic by time: no topic is read whole."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from aiokafka import TopicPartition

from consumers import broker
from ops.replaying.reading import Span, read
from schemas import wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime

    from aiokafka import AIOKafkaConsumer, ConsumerRecord

    from schemas.event import DialResult

    Record: TypeAlias = ConsumerRecord[bytes | None, bytes | None]


async def places_of(options: Mapping[str, Any], topic: str) -> list[TopicPartition]:
    """Name a topic's partitions, none if there is no such topic."""
    count = (await broker.partitions(options)).get(topic, 0)
    return [TopicPartition(topic, number) for number in range(count)]


async def offsets(client: AIOKafkaConsumer, places: list[TopicPartition], at: datetime) -> dict[TopicPartition, int]:
    """Return where that time begins in each partition; the end where nothing is as young."""
    ends = await client.end_offsets(places)
    found = await client.offsets_for_times(dict.fromkeys(places, int(at.timestamp() * 1_000)))
    return {place: found[place].offset if found.get(place) else ends[place] for place in places}


async def records(
    client: AIOKafkaConsumer, topic: str, wanted: Mapping[int, Span], label: str | None = None
) -> AsyncIterator[Record]:
    """Give the records of these spans; with a label, a terminal is shown how far it is, on standard error."""
    at = {number: span.begin for number, span in wanted.items()}
    total = sum(max(0, span.end - span.begin) for span in wanted.values())
    hidden = label is None or not total or not sys.stderr.isatty()
    with click.progressbar(length=total, label=label, show_pos=True, hidden=hidden, file=sys.stderr) as bar:
        async for lot in read(client, topic, wanted):
            for record in lot.records:
                yield record
            bar.update(lot.next_offset - at[lot.partition])
            at[lot.partition] = lot.next_offset


def event_of(record: Record) -> DialResult | None:
    """Return what a record says, None where it is no event of ours."""
    try:
        return wire.decode(record.value)
    except wire.InvalidRecord:
        return None
