"""One task: what came of it and what is still to come, from storage's view and the topic together."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
from aiokafka import TopicPartition

from consumers import broker
from ops.ending import NotNow
from ops.quarantining.kept import Wanted, scan
from ops.quarantining.settled import settled
from ops.replaying.reading import Span, reader
from schemas import topics
from schemas.event import CALLBACK, RECONCILE

from .hops import REPEATS
from .topic import event_of, offsets, places_of, records

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import asyncpg
    from aiokafka import AIOKafkaConsumer

    from schemas.event import DialResult

    from .topic import Record

    _Committed = Mapping[TopicPartition, int]

_SLACK = timedelta(seconds=1)
_UNKNOWN = timedelta(hours=2)  # how far back the topic is searched for a task that storage does not know
_WHOSE = "SELECT merchant FROM task_progress WHERE task_id = $1 ORDER BY merchant"
_HELD = """
SELECT event_id::text, merchant, record_id, received_at, called_at, source FROM dial_result_masked
WHERE merchant = $1 AND task_id = $2
"""


@dataclass(frozen=True)
class Asked:
    """Which task; `merchant` None: whoever has it; `since` None: from the task's first result on."""

    task_id: str
    merchant: str | None
    late_after: timedelta
    since: datetime | None = None


@dataclass
class Task:
    """One task's results, each once: `received` = stored + `waiting` + `not_in_storage`."""

    merchant: str | None
    since: datetime
    until: datetime
    """The topic is read from `since` to `until`, and wherever storage has not committed yet."""
    received: int = 0
    contacts: set[bytes] = field(default_factory=set)
    reconciled: int = 0
    late: int = 0
    without_call_time: int = 0
    duplicates: int = 0
    re_sent: int = 0
    waiting: int = 0
    not_in_storage: int = 0
    quarantined_of_merchant: int = 0

    def take_row(self, row: Mapping[str, Any], late_after: timedelta) -> None:
        """Count one row of storage's."""
        self._count(f"{row['merchant']}:{row['record_id']}".encode(), row["source"])
        if row["source"] == CALLBACK:  # a reconciled one is late by its nature
            self.without_call_time += row["called_at"] is None
            self.late += row["called_at"] is not None and row["received_at"] - row["called_at"] > late_after

    def take_copy(self, record: Record) -> None:
        """Count another record of a result that is counted."""
        resent = any(name == topics.RESENT for name, _ in record.headers)
        self.re_sent += resent
        self.duplicates += not resent

    def take_unstored(self, event: DialResult, *, waits: bool) -> None:
        """Count a result that only the topic has."""
        self._count(event.key, event.source)
        self.waiting += waits
        self.not_in_storage += not waits

    def missing(self, uploaded: int | None) -> int | None:
        """Return of how many uploaded contacts nothing came; None where nobody said how many there are."""
        return None if uploaded is None else max(0, uploaded - len(self.contacts))

    def _count(self, key: bytes, source: str) -> None:
        self.received += 1
        self.contacts.add(key)
        self.reconciled += source == RECONCILE


async def task_report(connection: asyncpg.Connection, options: Mapping[str, Any], asked: Asked) -> Task:
    """Count one task.

    Raises:
        click.UsageError: several merchants have a task of this id.
        NotNow: a topic is missing.
        KafkaError, OSError, TimeoutError: Kafka does not answer.
    """
    # Committed offsets before rows: what is committed and has no row then is not just on its way.
    committed = await broker.committed(options, "storage")
    merchant = asked.merchant or await _whose(connection, asked.task_id)
    rows = await connection.fetch(_HELD, merchant, asked.task_id)
    task = Task(merchant, *_reach(rows, asked.since))
    for row in rows:
        task.take_row(row, asked.late_after)
    await _read_topic(options, task, asked.task_id, rows, committed)
    wanted = Wanted(task.since, task.until, (task.merchant,) if task.merchant else ())
    mended = await settled(connection)
    task.quarantined_of_merchant = sum([1 async for kept in scan(options, wanted) if kept not in mended])
    return task


async def _whose(connection: asyncpg.Connection, task_id: str) -> str | None:
    found = [row["merchant"] for row in await connection.fetch(_WHOSE, task_id)]
    if len(found) > 1:
        raise click.UsageError(f"several merchants have such a task: name one by --merchant: {', '.join(found)}")
    return found[0] if found else None


def _reach(rows: Sequence[Mapping[str, Any]], since: datetime | None) -> tuple[datetime, datetime]:
    """Say which part of the topic may hold copies of these rows."""
    now = datetime.now(UTC)
    times = [row["received_at"] for row in rows]
    begin = since or (min(times) - _SLACK if times else now - _UNKNOWN)
    return begin, max(times) + REPEATS if times else now


async def _read_topic(
    options: Mapping[str, Any], task: Task, task_id: str, rows: Sequence[Mapping[str, Any]], committed: _Committed
) -> None:
    stored = {row["event_id"] for row in rows}
    seen = {row["event_id"] for row in rows if row["received_at"] < task.since}
    async for record, event in _published(options, task, task_id, committed):
        if event.event_id in seen:
            task.take_copy(record)
        elif event.event_id not in stored:
            place = TopicPartition(record.topic, record.partition)
            task.take_unstored(event, waits=record.offset >= committed.get(place, 0))
        seen.add(event.event_id)


async def _published(
    options: Mapping[str, Any], task: Task, task_id: str, committed: _Committed
) -> AsyncIterator[tuple[Record, DialResult]]:
    async with reader(options) as client:
        for spans in await _spans(options, client, task, committed):
            async for record in records(client, topics.DIAL_RESULTS, spans, "report task: reading the topic"):
                event = event_of(record) if _may_be_of(record, task_id) else None
                if event and event.task_id == task_id and task.merchant in (None, event.merchant):
                    yield record, event


def _may_be_of(record: Record, task_id: str) -> bool:
    """Tell by the header alone whether it is worth decoding."""
    subject = dict(record.headers).get("ce_subject")
    return subject is None or subject.startswith(f"{task_id}/".encode())


async def _spans(
    options: Mapping[str, Any], client: AIOKafkaConsumer, task: Task, committed: _Committed
) -> tuple[dict[int, Span], dict[int, Span]]:
    """Return the task's time, and what storage has not committed behind it."""
    places = await places_of(options, topics.DIAL_RESULTS)
    if not places:
        raise NotNow(f"the topic {topics.DIAL_RESULTS} is missing: `dial-results topics apply` makes it")
    begins, ends = [await offsets(client, places, at) for at in (task.since, task.until)]
    last = await client.end_offsets(places)
    of_time = {place.partition: Span(begins[place], ends[place]) for place in places}
    behind = {place.partition: Span(max(ends[place], committed.get(place, 0)), last[place]) for place in places}
    return of_time, behind
