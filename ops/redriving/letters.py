"""What stands in a dead-letter topic, and which of it is settled: redriven or purged, by `ops.redrive`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec
from aiokafka import TopicPartition

from ops.replaying.filters import Filters, Matcher
from ops.replaying.reading import Span, read, reader, spans
from ops.replaying.sending import Copy
from schemas import topics

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    import asyncpg
    from aiokafka import ConsumerRecord

    from schemas.merchants import Merchant

    Record: TypeAlias = "ConsumerRecord[bytes | None, bytes | None]"

REDRIVEN, PURGED = "redriven", "purged"
_SETTLED = 'SELECT partition, "offset", timestamp_ms FROM ops.redrive WHERE consumer = $1'
_SETTLE = """
INSERT INTO ops.redrive (consumer, partition, "offset", timestamp_ms, state, redrive_id)
SELECT $1, *, $5, $6 FROM unnest($2::int[], $3::bigint[], $4::bigint[]) ON CONFLICT DO NOTHING
"""
_OURS = (topics.REASON, topics.CONSUMER, topics.ATTEMPTS, topics.VERSION, topics.REPLAY_ID)
_PLACE = (topics.ORIGINAL_PARTITION, topics.ORIGINAL_OFFSET)


class Chosen(msgspec.Struct, frozen=True):
    """Which dead letters are meant: by what they say, and by why they are dead."""

    filters: Filters
    reasons: tuple[str, ...] = ()


class Letter(NamedTuple):
    """A dead letter, and whether something has become of it."""

    record: Record
    settled: bool

    @property
    def reason(self) -> str:
        """Why the sink refused it."""
        return str(dict(self.record.headers).get(topics.REASON, b"unknown"), errors="replace")


class Letters:
    """One consumer's dead-letter topic, as it is now."""

    def __init__(self, options: Mapping[str, Any], consumer: str, partitions: int) -> None:
        self._options = options
        self.consumer = consumer
        self.topic = topics.dead_letter(consumer)
        self.places = [TopicPartition(self.topic, number) for number in range(partitions)]

    async def standing(self) -> dict[int, Span]:
        """Return what stands there now, as offsets. Raises KafkaError, OSError, TimeoutError."""
        async with reader(self._options) as client:
            return await spans(client, self.places, None)

    async def read(self, wanted: Mapping[int, Span], settled: set[tuple[int, int, int]]) -> AsyncGenerator[Letter]:
        """Yield every one, each partition in its order. Raises KafkaError, OSError, TimeoutError."""
        async with reader(self._options) as client:
            async for _, records, _ in read(client, self.topic, wanted):
                for record in records:
                    yield Letter(record, (record.partition, record.offset, record.timestamp) in settled)


class Fits:
    """Tells whether a dead letter is one of the chosen."""

    def __init__(self, chosen: Chosen, merchants: Mapping[str, Merchant]) -> None:
        self._reasons = set(chosen.reasons)
        self._matches = None if chosen.filters.are_none() else Matcher(chosen.filters, merchants)

    def __call__(self, letter: Letter) -> bool:
        """Answer."""
        if self._reasons and letter.reason not in self._reasons:
            return False
        return self._matches is None or self._matches(letter.record)


class Groups:
    """Counts those that wait, by reason."""

    def __init__(self) -> None:
        self.waiting = 0
        self.settled = 0
        self._reasons: Counter[str] = Counter()
        self._versions: dict[str, set[str]] = {}
        self._contacts: dict[str, set[bytes | None]] = {}

    def add(self, letter: Letter) -> None:
        """Count one."""
        if letter.settled:
            self.settled += 1
            return
        self.waiting += 1
        self._reasons[letter.reason] += 1
        version = dict(letter.record.headers).get(topics.VERSION, b"unknown").decode(errors="replace")
        self._versions.setdefault(letter.reason, set()).add(version)
        self._contacts.setdefault(letter.reason, set()).add(letter.record.key)

    def told(self) -> list[dict[str, Any]]:
        """Return a line a reason, the most frequent first."""
        return [
            {
                "reason": reason,
                "records": count,
                "contacts": len(self._contacts[reason]),
                "versions": sorted(self._versions[reason]),
            }
            for reason, count in self._reasons.most_common()
        ]


def copy_of(record: Record, redrive_id: bytes, partitions: int) -> Copy:
    """Make a replayed record of a dead letter: as the live one was, with the place of its original if that is known."""
    headers = dict(record.headers)
    is_live = headers.get(topics.ORIGINAL_TOPIC) == topics.DIAL_RESULTS.encode()
    # Offsets of another topic would be taken for the live one's.
    left_out = _OURS if is_live else (*_OURS, *_PLACE)
    kept = [one for one in record.headers if one[0] not in left_out]
    place = headers.get(topics.ORIGINAL_PARTITION, b"")
    known = is_live and place.isdigit() and int(place) < partitions
    partition = int(place) if known else topics.partition_of(record.key or b"", partitions)
    return Copy(partition, record.key, record.value, [*kept, (topics.REPLAY_ID, redrive_id)], record.timestamp)


async def settled_ones(connection: asyncpg.Connection, consumer: str) -> set[tuple[int, int, int]]:
    """Return partition, offset and time of every dead letter that something became of."""
    return {tuple(row) for row in await connection.fetch(_SETTLED, consumer)}


async def settle(
    connection: asyncpg.Connection, consumer: str, records: Sequence[Record], state: str, redrive_id: str
) -> None:
    """Remember what became of these, durably."""
    partitions, offsets, times = (
        [getattr(one, name) for one in records] for name in ("partition", "offset", "timestamp")
    )
    await connection.execute(_SETTLE, consumer, partitions, offsets, times, state, redrive_id)
