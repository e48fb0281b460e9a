"""Every hop of one result, found by key and time: no topic is read whole."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition

from consumers import broker
from ops.replaying.reading import Span, reader
from schemas import topics
from schemas.clients import learn

from .sinks import held_by
from .topic import event_of, offsets, places_of, records

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    import asyncpg
    from aiokafka import AIOKafkaConsumer

    from schemas.event import DialResult

    from .topic import Record

REPEATS = timedelta(minutes=30)  # Blu repeats for 25
_SLACK = timedelta(seconds=1)
_BY_EVENT = "SELECT * FROM dial_result_masked WHERE event_id = $1::text::uuid"
_BY_RECORD = """
SELECT * FROM dial_result_masked WHERE record_id = $1 AND ($2::text IS NULL OR merchant = $2)
ORDER BY received_at DESC LIMIT 20
"""
_LEDGER = """
SELECT destination, state, attempts, reason, updated_at FROM ops.crm_ledger WHERE event_id = $1::text::uuid
"""
_RECEIPTS = "SELECT consumer, erased_at, remains FROM ops.erasure_receipt WHERE merchant = $1 AND record_id = $2"


@dataclass(frozen=True)
class Traced:
    """Whose way is looked for; nothing of what the result says."""

    event_id: str
    merchant: str
    record_id: str
    received_at: datetime

    @property
    def key(self) -> bytes:
        """The record's key in every topic."""
        return f"{self.merchant}:{self.record_id}".encode()


@dataclass(frozen=True)
class Kafka:
    """A client, how many partitions each topic has, and what each consumer has committed."""

    client: AIOKafkaConsumer
    counts: Mapping[str, int]
    groups: Mapping[str, Mapping[TopicPartition, int]]

    async def copies(self, one: Traced) -> dict[str, list[Record]]:
        """Return the copies of one event in each topic: of its key's partition, by the times of their originals."""
        names = [topics.DIAL_RESULTS, *map(topics.replay, topics.CONSUMERS), *map(topics.dead_letter, topics.CONSUMERS)]
        places = [
            TopicPartition(name, topics.partition_of(one.key, count))
            for name in names
            if (count := self.counts.get(name))
        ]
        await learn(self.client, {place.topic for place in places})
        # All is asked before anything is fetched: a broker answers nothing on a connection where a fetch waits.
        wanted = await _spans(self.client, places, one.received_at - _SLACK, one.received_at + REPEATS)
        found: dict[str, list[Record]] = {name: [] for name in names}
        for place, span in wanted.items():
            async for record in records(self.client, place.topic, {place.partition: span}):
                if record.key == one.key and (event := event_of(record)) and event.event_id == one.event_id:
                    found[place.topic].append(record)
        return found


async def known(
    connection: asyncpg.Connection, event_id: str | None, merchant: str | None, record_id: str | None
) -> list[Traced]:
    """Return what storage knows of an event, or of a contact's latest 20."""
    rows = await (
        connection.fetch(_BY_EVENT, event_id) if event_id else connection.fetch(_BY_RECORD, record_id, merchant)
    )
    return [Traced(str(row["event_id"]), row["merchant"], row["record_id"], row["received_at"]) for row in rows]


async def searched(options: Mapping[str, Any], since: datetime, fits: Callable[[DialResult], bool]) -> list[Traced]:
    """Look through `dial-results` from that time on, for what storage does not know; the first of each event."""
    found: dict[str, Traced] = {}
    async with reader(options) as client:
        places = await places_of(options, topics.DIAL_RESULTS)
        spans = await _spans(client, places, since, datetime.now(UTC))
        wanted = {place.partition: span for place, span in spans.items()}
        async for record in records(client, topics.DIAL_RESULTS, wanted, "trace: looking through the topic"):
            if (one := event_of(record)) and fits(one):
                found.setdefault(one.event_id, Traced(one.event_id, one.merchant, one.record_id, one.received_at))
    return list(found.values())


@asynccontextmanager
async def kafka(options: Mapping[str, Any]) -> AsyncIterator[Kafka]:
    """Open the client for `hops`, and ask what is the same for all of them.

    Raises:
        KafkaError, OSError, TimeoutError: Kafka cannot be reached.
    """
    async with reader(options) as client:
        counts = await broker.partitions(options)
        groups = {name: await broker.committed(options, name) for name in topics.CONSUMERS}
        yield Kafka(client, counts, groups)


async def hops(connection: asyncpg.Connection, kafka: Kafka, uri: str | None, one: Traced) -> list[dict[str, Any]]:
    """Return the hops in order; `at` is a time in ISO, None where the place does not say one."""
    said = [_hop(one.received_at, "receiver", "received, and on its journal's disk before the answer 200")]
    copies = await kafka.copies(one)
    live = copies[topics.DIAL_RESULTS]
    for number, record in enumerate(live):
        what = "published" if number == 0 else "published again (a repeat)"
        said.append(_hop(_time(record), topics.DIAL_RESULTS, f"{what}: {_place(record)}"))
    for name in topics.CONSUMERS:
        for record in copies[topics.replay(name)]:
            job = dict(record.headers).get(topics.REPLAY_ID, b"").decode(errors="replace")
            said.append(_hop(None, name, f"replayed by job {job}: {_place(record)}"))
        told = await _in_sink(connection, uri, name, one)
        said += told or _nothing_there(kafka, name, live)
        for letter in copies[topics.dead_letter(name)]:
            reason = dict(letter.headers).get(topics.REASON, b"").decode(errors="replace")
            said.append(_hop(_time(letter), name, f"dead letter ({reason}): {_place(letter)}"))
    for receipt in await connection.fetch(_RECEIPTS, one.merchant, one.record_id):
        said.append(_hop(receipt["erased_at"], receipt["consumer"], "the contact was erased"))
    return said


async def _in_sink(connection: asyncpg.Connection, uri: str | None, consumer: str, one: Traced) -> list[dict[str, Any]]:
    if consumer == "crm":
        rows = await connection.fetch(_LEDGER, one.event_id)
        said = "{state}, {attempts} calls {reason}"
        return [
            _hop(row["updated_at"], row["destination"], said.format(**{**row, "reason": row["reason"] or ""}))
            for row in rows
        ]
    if consumer == "analytics" and uri is None:
        return [_hop(None, consumer, "not asked: nobody said where the table is")]
    held, _ = await held_by(consumer, connection, uri, [one.event_id], one.received_at)
    return [_hop(None, consumer, "a row")] if held else []


def _nothing_there(kafka: Kafka, consumer: str, live: list[Record]) -> list[dict[str, Any]]:
    if not live:
        return []
    place = TopicPartition(live[0].topic, live[0].partition)
    behind = live[0].offset >= kafka.groups[consumer].get(place, 0)
    return [_hop(None, consumer, "waiting: not committed yet" if behind else "committed, and no effect of it there")]


async def _spans(
    client: AIOKafkaConsumer, places: list[TopicPartition], since: datetime, until: datetime
) -> dict[TopicPartition, Span]:
    begins, ends = [await offsets(client, places, at) for at in (since, until)]
    return {place: Span(begins[place], ends[place]) for place in places}


def _place(record: Record) -> str:
    return f"partition {record.partition}, offset {record.offset}"


def _time(record: Record) -> datetime:
    return datetime.fromtimestamp(record.timestamp / 1_000, UTC)


def _hop(at: datetime | None, where: str, what: str) -> dict[str, Any]:
    return {"at": at.isoformat(timespec="milliseconds") if at else None, "where": where, "what": what.strip()}
