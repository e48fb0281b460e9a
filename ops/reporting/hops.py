"""Every hop of one result, found by key and time: no topic is read whole."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition

from consumers import broker
from ops.replaying.reading import Span, reader
from schemas import topics

from .sinks import held_by
from .topic import event_of, offsets, places_of, records

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    import asyncpg
    from aiokafka import AIOKafkaConsumer

    from ops.places import Places
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
        wanted = await _spans(client, places, since, datetime.now(UTC))
        async for record in records(client, topics.DIAL_RESULTS, wanted, "trace: looking through the topic"):
            if (one := event_of(record)) and fits(one):
                found.setdefault(one.event_id, Traced(one.event_id, one.merchant, one.record_id, one.received_at))
    return list(found.values())


async def hops(connection: asyncpg.Connection, places: Places, one: Traced) -> list[dict[str, Any]]:
    """Return the hops in order; `at` is a time in ISO, None where the place does not say one."""
    said = [_hop(one.received_at, "receiver", "received, and on its journal's disk before the answer 200")]
    options, span = places.kafka, (one.received_at - _SLACK, one.received_at + REPEATS)
    async with reader(options) as client:
        live = [record async for record in _of(options, client, topics.DIAL_RESULTS, one, span)]
        for number, record in enumerate(live):
            what = "published" if number == 0 else "published again (a repeat)"
            said.append(_hop(_time(record), topics.DIAL_RESULTS, f"{what}: {_place(record)}"))
        for name in topics.CONSUMERS:
            said += await _replays(options, client, name, one, span)
            said += await _in_sink(connection, places, name, one, live[0] if live else None)
            async for letter in _of(options, client, topics.dead_letter(name), one, span):
                reason = dict(letter.headers).get(topics.REASON, b"").decode(errors="replace")
                said.append(_hop(_time(letter), name, f"dead letter ({reason}): {_place(letter)}"))
    for receipt in await connection.fetch(_RECEIPTS, one.merchant, one.record_id):
        said.append(_hop(receipt["erased_at"], receipt["consumer"], "the contact was erased"))
    return said


async def _replays(
    options: Mapping[str, Any], client: AIOKafkaConsumer, consumer: str, one: Traced, span: tuple[datetime, datetime]
) -> list[dict[str, Any]]:
    found = []
    async for record in _of(options, client, topics.replay(consumer), one, span):
        job = dict(record.headers).get(topics.REPLAY_ID, b"").decode(errors="replace")
        found.append(_hop(None, consumer, f"replayed by job {job}: {_place(record)}"))
    return found


async def _in_sink(
    connection: asyncpg.Connection, places: Places, consumer: str, one: Traced, live: Record | None
) -> list[dict[str, Any]]:
    if consumer == "crm":
        rows = await connection.fetch(_LEDGER, one.event_id)
        told = [
            _hop(
                row["updated_at"], row["destination"], f"{row['state']}, {row['attempts']} calls {row['reason'] or ''}"
            )
            for row in rows
        ]
    elif consumer == "analytics" and places.analytics_uri is None:
        return [_hop(None, consumer, "not asked: nobody said where the table is")]
    else:
        held, _ = await held_by(consumer, connection, places.analytics_uri, [one.event_id], one.received_at)
        told = [_hop(None, consumer, "a row")] if held else []
    if told or live is None:
        return told
    committed = await broker.committed(places.kafka, consumer)
    behind = live.offset >= committed.get(TopicPartition(live.topic, live.partition), 0)
    return [_hop(None, consumer, "waiting: not committed yet" if behind else "committed, and no effect of it there")]


async def _of(
    options: Mapping[str, Any],
    client: AIOKafkaConsumer,
    topic: str,
    one: Traced,
    span: tuple[datetime, datetime],
) -> AsyncIterator[Record]:
    """Give the copies of one event in a topic, by the times that their originals had."""
    async for record in _records(options, client, topic, one.key, span):
        if record.key == one.key and (event := event_of(record)) and event.event_id == one.event_id:
            yield record


async def _records(
    options: Mapping[str, Any],
    client: AIOKafkaConsumer,
    topic: str,
    key: bytes,
    span: tuple[datetime, datetime],
) -> AsyncIterator[Record]:
    """Give what the key's partition has of that time."""
    wanted = await _spans(client, await places_of(options, topic, key), *span)
    async for record in records(client, topic, wanted):
        yield record


async def _spans(
    client: AIOKafkaConsumer, places: list[TopicPartition], since: datetime, until: datetime
) -> dict[int, Span]:
    begins, ends = [await offsets(client, places, at) for at in (since, until)]
    return {place.partition: Span(begins[place], ends[place]) for place in places}


def _place(record: Record) -> str:
    return f"partition {record.partition}, offset {record.offset}"


def _time(record: Record) -> datetime:
    return datetime.fromtimestamp(record.timestamp / 1_000, UTC)


def _hop(at: datetime | None, where: str, what: str) -> dict[str, Any]:
    return {"at": at.isoformat(timespec="milliseconds") if at else None, "where": where, "what": what.strip()}
