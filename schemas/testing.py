"""For the tests of subscribers: made-up events, and the topic in memory. No broker, and no waiting.

```python
topic = MemoryTopic()
topic.publish(event("1", conclusion="AP"), event("2", conclusion="Busy"))
async with topic.subscribe("my-team") as results:
    async for batch in results:
        ...
```
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from aiokafka import TopicPartition

from . import exact, topics, wire
from .blu import BluRecord, decode_callback
from .event import CALLBACK, DialResult, dial_result
from .results import Results
from .selection import Selection
from .subscribe import check

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from .results import Offsets
    from .selection import Record

_RECEIVED_AT = datetime(2026, 11, 24, 3, 14, 15, 926_000, UTC)
_numbers = msgspec.json.Encoder(decimal_format="number")


def event(
    record_id: str = "1",
    *,
    merchant: str = "demo",
    task_id: str = "1",
    received_at: datetime = _RECEIVED_AT,
    source: str = CALLBACK,
    **fields: Any,  # noqa: ANN401  # whatever Blu may send
) -> DialResult:
    """Make an event whose `result` holds these of Blu's fields, with the id that the receiver would give it.

    The same arguments give the same event: publish it twice to test how you drop repeats.
    """
    written = _numbers.encode({"id": record_id} | fields)
    record = BluRecord(0, record_id, exact.canonical(exact.decode(written)))
    return dial_result(merchant, task_id, record, round(received_at.timestamp() * 1_000), source=source)


def events_of(body: bytes, *, merchant: str = "demo", received_at: datetime = _RECEIVED_AT) -> list[DialResult]:
    """Make the events of a callback's body, as the receiver does.

    Raises:
        dial_results.blu.UnreadableCallback: it would go to the quarantine.
    """
    callback, received_ms = decode_callback(body), round(received_at.timestamp() * 1_000)
    return [
        dial_result(merchant, callback.task_id, record, received_ms, envelope=callback.envelope)
        for record in callback.records
    ]


class MemoryRecord(NamedTuple):
    """A record as a Kafka client gives it; `timestamp` in milliseconds since 1970."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


class MemoryTopic:
    """The topic, its partitions and its groups' offsets. A loop over it ends where the records do."""

    def __init__(self, partitions: int = topics.PARTITIONS) -> None:
        self.name = topics.DIAL_RESULTS
        self._records: dict[int, list[MemoryRecord]] = {number: [] for number in range(partitions)}
        self._committed: defaultdict[str, Offsets] = defaultdict(dict)

    def publish(self, *events: DialResult) -> None:
        """Write events, each to the partition of its key."""
        for one in events:
            record = wire.encode(one)
            self.put(record.value, key=record.key, timestamp_ms=record.timestamp_ms)

    def put(self, value: bytes | None, *, key: bytes = b"demo:1", timestamp_ms: int = 0) -> None:
        """Write any bytes, such as no subscriber should meet."""
        number = topics.partition_of(key, len(self._records))
        kept = self._records[number]
        kept.append(MemoryRecord(number, len(kept), key, value, timestamp_ms))

    def lag(self, group: str) -> int:
        """Count the records that the group has not committed."""
        done = self._committed[group]
        return sum(len(kept) - done.get(self._place(number), 0) for number, kept in self._records.items())

    @asynccontextmanager
    async def subscribe(
        self,
        group: str,
        *,
        since: datetime | None = None,
        merchants: Collection[str] | None = None,
        fields: Collection[str] | None = None,
        max_batch: int = 1_000,
        remembered: int = 100_000,
    ) -> AsyncIterator[Results]:
        """Do as `dial_results.subscribe.subscribe` does, for one member at a time.

        Raises:
            ValueError: as there.
        """
        check(group, since)
        committed = self._committed[group]
        if since is not None:
            for number in self._records:
                committed.setdefault(self._place(number), self._at(number, since))
        source = _MemorySource(self._records, self.name, committed, max_batch)
        yield Results(source, Selection(merchants, fields, remembered))

    def _place(self, number: int) -> TopicPartition:
        return TopicPartition(self.name, number)

    def _at(self, number: int, since: datetime) -> int:
        later = (one.offset for one in self._records[number] if one.timestamp >= since.timestamp() * 1_000)
        return next(later, len(self._records[number]))


class _MemorySource:
    def __init__(self, records: dict[int, list[MemoryRecord]], name: str, committed: Offsets, max_batch: int) -> None:
        self._records = records
        self._positions = {TopicPartition(name, number): 0 for number in records} | committed
        self._committed = committed
        self._max_batch = max_batch

    async def fetch(self) -> Mapping[TopicPartition, Sequence[Record]] | None:
        fetched: dict[TopicPartition, list[MemoryRecord]] = {}
        room = self._max_batch
        for place, position in self._positions.items():
            if taken := self._records[place.partition][position : position + room]:
                fetched[place] = taken
                self._positions[place] = position + len(taken)
                room -= len(taken)
        return fetched or None

    async def commit(self, offsets: Offsets) -> None:
        self._committed.update(offsets)
