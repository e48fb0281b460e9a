"""One hour's results, counted in the durable places themselves: topics, tables, ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition

from consumers import broker
from ops.ending import NotNow
from ops.replaying.reading import Span, read, reader, spans
from schemas import topics, wire
from schemas.event import RECONCILE

from .sinks import held_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime

    import asyncpg
    from aiokafka import AIOKafkaConsumer, ConsumerRecord

    from ops.places import Places

HOUR = timedelta(hours=1)
_REACH = timedelta(hours=1)  # Blu repeats for 25 minutes: a copy whose first one came before the hour is a repeat


@dataclass
class Published:
    """The hour's records of `dial-results`, by their own `receivedAt`. `first`: event id to key, partition, offset."""

    first: dict[str, tuple[bytes, int, int]] = field(default_factory=dict)
    records: int = 0
    repeats: int = 0
    resent: int = 0
    reconciled: int = 0

    def take(self, record: ConsumerRecord[bytes | None, bytes | None], earlier: set[str], since: datetime) -> None:
        """Count one record; `earlier` holds the ids that were seen before the hour."""
        try:
            event = wire.decode(record.value)
        except wire.InvalidRecord:
            return
        if event.received_at < since:
            earlier.add(event.event_id)
            return
        if event.received_at >= since + HOUR:
            return
        self.records += 1
        if event.event_id in earlier or event.event_id in self.first:
            resent = any(name == topics.RESENT for name, _ in record.headers)
            self.resent += resent
            self.repeats += not resent
            return
        self.reconciled += event.source == RECONCILE
        self.first[event.event_id] = (event.key, record.partition, record.offset)


@dataclass(frozen=True)
class Sheet:
    """One sink's line: `first_time` is the sum of the others, or `missing` says by how much it is not."""

    first_time: int
    applied: int
    superseded: int
    waiting: int
    dead: int
    erased: int
    missing: tuple[str, ...]


async def results(
    connection: asyncpg.Connection, places: Places, since: datetime
) -> tuple[Published, dict[str, Sheet]]:
    """Count the hour from `since` on.

    Raises:
        NotNow: a topic is missing, or the analytics table cannot be read.
        KafkaError, OSError, TimeoutError: Kafka does not answer.
    """
    options = places.kafka
    async with reader(options) as client:
        published = await _published(options, client, since)
        erased = {
            record.key or b"" async for record in _records(options, client, topics.erased(), None) if record.value
        }
        dead = {name: await _dead(options, client, name, since) for name in topics.CONSUMERS}
    committed = {name: await _committed(options, name) for name in topics.CONSUMERS}
    sheets: dict[str, Sheet] = {}
    for name in topics.CONSUMERS:
        applied, superseded = await held_by(name, connection, places.analytics_uri, published.first, since)
        sheets[name] = _sheet(published, applied, superseded, dead[name], erased, committed[name])
    return published, sheets


def _sheet(
    published: Published,
    applied: set[str],
    superseded: set[str],
    dead: set[str],
    erased: set[bytes],
    committed: Mapping[int, int],
) -> Sheet:
    """Give each event one place, the first that fits: what is in a sink is applied, whatever else is said of it."""
    counts = dict.fromkeys(("applied", "superseded", "dead", "erased", "waiting"), 0)
    missing: list[str] = []
    for event_id, (key, partition, offset) in published.first.items():
        fits = {
            "applied": event_id in applied,
            "superseded": event_id in superseded,
            "dead": event_id in dead,
            "erased": key in erased,
            "waiting": offset >= committed.get(partition, 0),
        }
        found = next((name for name, holds in fits.items() if holds), None)
        if found is None:
            missing.append(event_id)
        else:
            counts[found] += 1
    return Sheet(len(published.first), missing=tuple(missing), **counts)


async def _published(options: Mapping[str, Any], client: AIOKafkaConsumer, since: datetime) -> Published:
    published, earlier = Published(), set[str]()
    async for record in _records(options, client, topics.DIAL_RESULTS, since - _REACH):
        published.take(record, earlier, since)
    return published


async def _dead(options: Mapping[str, Any], client: AIOKafkaConsumer, consumer: str, since: datetime) -> set[str]:
    """Return the ids in a dead-letter topic: a dead letter keeps the headers and the time of its record."""
    found: set[str] = set()
    async for record in _records(options, client, topics.dead_letter(consumer), since - _REACH):
        found.add(dict(record.headers).get("ce_id", b"").decode(errors="replace"))
    return found


async def _records(
    options: Mapping[str, Any], client: AIOKafkaConsumer, topic: str, since: datetime | None
) -> AsyncIterator[ConsumerRecord[bytes | None, bytes | None]]:
    """Give what stands in a topic now, from that time on."""
    numbers = range((await broker.partitions(options)).get(topic, 0))
    if not numbers:
        raise NotNow(f"the topic {topic} is missing: `dial-results topics apply` makes it")
    wanted: dict[int, Span] = await spans(client, [TopicPartition(topic, number) for number in numbers], since)
    async for lot in read(client, topic, wanted):
        for record in lot.records:
            yield record


async def _committed(options: Mapping[str, Any], consumer: str) -> dict[int, int]:
    """Return how far a consumer is in `dial-results`."""
    found = await broker.committed(options, consumer)
    return {place.partition: offset for place, offset in found.items() if place.topic == topics.DIAL_RESULTS}
