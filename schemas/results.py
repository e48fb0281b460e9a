"""The loop of a subscriber: batches, committed when their body has finished. The same over Kafka and in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from aiokafka import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .event import DialResult
    from .selection import Counts, Record, Selection

Offsets = dict[TopicPartition, int]
"""For each partition the offset to go on from."""


class Source(Protocol):
    """Where records come from, for one member of one group."""

    async def fetch(self) -> Mapping[TopicPartition, Sequence[Record]] | None:
        """Give what is there, or wait a short while for it; empty: nothing yet; None: there will be no more."""

    async def commit(self, offsets: Offsets) -> None:
        """The last that was fetched is done. What is another member's by now is left to that member."""


@dataclass(frozen=True)
class Batch:
    """Results to work on, each once, those of one contact in their order."""

    events: list[DialResult]
    offsets: Offsets

    def __iter__(self) -> Iterator[DialResult]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)


class Results:
    """`async for batch in results`: asking for the next batch says that the last one is done, and commits it.

    `break`, `return` or an exception in the body leave the batch uncommitted: a loop over the same `results` begins
    with it again, and so does the next member of the group. For one task at a time.
    """

    def __init__(self, source: Source, selection: Selection) -> None:
        self._source = source
        self._selection = selection
        self._in_hand: Batch | None = None
        self._again = False
        self._stopping = False

    @property
    def counts(self) -> Counts:
        """What became of the records so far."""
        return self._selection.counts

    def stop(self) -> None:
        """End the loop when the body that runs has finished, and its batch is committed; for a signal handler."""
        self._stopping = True

    def __aiter__(self) -> Results:
        self._again = self._in_hand is not None
        return self

    async def __anext__(self) -> Batch:
        """Commit the last batch, and wait for the next.

        Raises:
            StopAsyncIteration: `stop` was called.
            TimeoutError: Kafka took no commit within a minute; what is not committed comes again.
            aiokafka.errors.KafkaError: Kafka refuses, for a reason that does not mend by itself.
        """
        if self._again and self._in_hand:
            self._again = False
            return self._in_hand
        await self._finish()
        while not self._stopping:
            fetched = await self._source.fetch()
            if fetched is None:
                break
            if fetched and (batch := await self._opened(fetched)):
                return batch
        raise StopAsyncIteration

    async def _opened(self, fetched: Mapping[TopicPartition, Sequence[Record]]) -> Batch | None:
        offsets = {place: records[-1].offset + 1 for place, records in fetched.items()}
        events = self._selection.events(record for records in fetched.values() for record in records)
        self._in_hand = Batch(events, offsets)
        if not events:
            await self._finish()
        return self._in_hand

    async def _finish(self) -> None:
        if (batch := self._in_hand) is None:
            return
        self._in_hand = None
        # Remembered only now: a batch that was broken off has to come again.
        self._selection.recent.add(event.event_id for event in batch)
        await self._source.commit(batch.offsets)
