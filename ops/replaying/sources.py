"""Where a replay takes its records from: the topic, or PostgreSQL for what the topic no longer has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
from aiokafka import TopicPartition

from schemas import topics, wire
from schemas.event import DialResult

from .filters import Filters, Matcher
from .plan import Expected
from .reading import Span, read, reader, spans
from .sending import Copy, copy_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    import asyncpg

    from schemas.merchants import Merchant

_PAGE = 2_000

# A record older than the retention goes as soon as it comes: it gets so long in the target, whatever its age.
_KEPT_AT_LEAST = timedelta(days=7)


class Found(Protocol):
    """A record that belongs to the replay."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class Lot(NamedTuple):
    """Some records in their order, of how many that were looked at; `progress` says what is behind us with them."""

    looked_at: int
    chosen: Sequence[Any]
    """Of `Found`; `Source.copy` makes copies of them."""
    progress: dict[str, Any]


class Source(Protocol):
    """One replay's records."""

    async def begin(self) -> tuple[dict[str, Any], Expected]:
        """Fix what belongs to the replay; return the first progress, and what is known without reading."""

    def lots(self, progress: Mapping[str, Any], portion: int) -> AsyncGenerator[Lot]:
        """Yield what comes behind that progress, so many records at a time."""

    def copy(self, found: Any) -> Copy:  # noqa: ANN401  # its own kind of `Found`
        """Make the record that goes out."""


class FromTopic:
    """The live topic, between offsets. Progress: partition to the next offset and the end."""

    def __init__(
        self,
        options: Mapping[str, Any],
        partitions: int,
        filters: Filters,
        merchants: Mapping[str, Merchant],
        replay_id: str,
    ) -> None:
        self._options = options
        self._places = [TopicPartition(topics.DIAL_RESULTS, number) for number in range(partitions)]
        self._since = filters.since
        self._matches = None if filters.are_none() else Matcher(filters, merchants)
        self._replay_id = replay_id.encode()
        self._topic = topics.DIAL_RESULTS.encode()

    async def begin(self) -> tuple[dict[str, Any], Expected]:
        """Find the offsets. Raises KafkaError, OSError, TimeoutError."""
        async with reader(self._options) as client:
            found = await spans(client, self._places, self._since)
            first = await client.beginning_offsets(self._places)
        expired = any(offset > 0 and found[place.partition].begin <= offset for place, offset in first.items())
        at_most = sum(span.end - span.begin for span in found.values())
        return {str(number): [span.begin, span.end] for number, span in found.items()}, Expected(
            at_most, expired=expired
        )

    async def lots(self, progress: Mapping[str, Any], portion: int) -> AsyncGenerator[Lot]:
        """Read. Raises KafkaError, OSError, TimeoutError."""
        at = {number: list(span) for number, span in progress.items()}
        wanted = {int(number): Span(*span) for number, span in at.items()}
        matches = self._matches
        async with reader(self._options, portion) as client:
            async for partition, records, next_offset in read(client, topics.DIAL_RESULTS, wanted):
                chosen = records if matches is None else [one for one in records if matches(one)]
                at[str(partition)][0] = next_offset
                # Copied: a checkpoint of what is sent may be written while the next lot is fetched.
                yield Lot(len(records), chosen, {number: list(span) for number, span in at.items()})

    def copy(self, found: Any) -> Copy:  # noqa: ANN401
        """Copy a record of the topic."""
        return copy_of(found, self._replay_id, self._topic)


_FILTERED = """
FROM dial_result
WHERE ($1::timestamptz IS NULL OR received_at >= $1) AND ($2::timestamptz IS NULL OR received_at < $2)
AND ($3::text[] = '{}' OR merchant = ANY($3)) AND ($4::text[] = '{}' OR task_id = ANY($4))
AND ($5::text[] = '{}' OR record_id = ANY($5)) AND ($6::text[] = '{}' OR conclusion = ANY($6))
AND ($7::text[] = '{}' OR event_id = ANY($7::uuid[]))
"""
_COUNT = f"SELECT count(*) {_FILTERED}"
_SELECT = f"""
SELECT event_id::text, merchant, task_id, record_id, received_at, source, record::text {_FILTERED}
AND ($8::timestamptz IS NULL OR (received_at, event_id) > ($8, $9::uuid))
ORDER BY received_at, event_id
"""


class FromStorage:
    """PostgreSQL's rows by `received_at`, as they were when reading began. Progress: the last row."""

    def __init__(self, connection: asyncpg.Connection, partitions: int, filters: Filters, replay_id: str) -> None:
        self._connection = connection
        self._partitions = partitions
        self._filters = filters
        self._replay_id = replay_id.encode()

    async def begin(self) -> tuple[dict[str, Any], Expected]:
        """Count. Raises asyncpg.PostgresError, OSError."""
        found: int = await self._connection.fetchval(_COUNT, *self._arguments())
        return {"after": None}, Expected(found)

    async def lots(self, progress: Mapping[str, Any], portion: int) -> AsyncGenerator[Lot]:
        """Read, in one transaction. Raises asyncpg.PostgresError, OSError."""
        after = progress["after"]
        last = (datetime.fromisoformat(after[0]), after[1]) if after else (None, None)
        async with self._connection.transaction(readonly=True):
            cursor = await self._connection.cursor(_SELECT, *self._arguments(), *last)
            while rows := await cursor.fetch(min(portion, _PAGE)):
                reached = [rows[-1]["received_at"].isoformat(), rows[-1]["event_id"]]
                yield Lot(len(rows), [self._read(row) for row in rows], {"after": reached})

    def _arguments(self) -> tuple[Any, ...]:
        asked = self._filters
        lists = (asked.merchants, asked.tasks, asked.records, asked.conclusions, asked.event_ids)
        return asked.since, asked.until, *(list(one) for one in lists)

    def copy(self, found: Copy) -> Copy:
        """Return it: it was made when it was read."""
        return found

    def _read(self, row: asyncpg.Record) -> Copy:
        event = DialResult(
            event_id=row["event_id"],
            merchant=row["merchant"],
            task_id=row["task_id"],
            record_id=row["record_id"],
            received_at=row["received_at"],
            source=row["source"],
            result=msgspec.Raw(row["record"].encode()),
        )
        key, value, headers, timestamp_ms = wire.encode(event)
        headers += [(topics.REPLAY_ID, self._replay_id), (topics.ORIGINAL_TOPIC, b"storage")]
        oldest = datetime.now(UTC) - timedelta(milliseconds=topics.RETENTION_MS) + _KEPT_AT_LEAST
        kept_ms = max(timestamp_ms, int(oldest.timestamp() * 1_000))
        return Copy(topics.partition_of(key, self._partitions), key, value, headers, kept_ms)
