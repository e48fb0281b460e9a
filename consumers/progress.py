"""How far each partition is, and what may be committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from aiokafka import AIOKafkaConsumer

    from consumers.rejects import Outcome


class Progress:
    """Offsets as Kafka counts them: the next record that is still to do."""

    def __init__(self) -> None:
        self._done: dict[TopicPartition, int] = {}
        self.committed: dict[TopicPartition, int] = {}

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Take a batch whose every record is settled, or held back as a reject."""
        records = [outcome.received.record for outcome in outcomes]
        last = {(record.topic, record.partition): record for record in records}
        self._done |= {TopicPartition(*place): record.offset + 1 for place, record in last.items()}

    def to_commit(self, held: Iterable[Outcome]) -> dict[TopicPartition, int]:
        """Return what is done and not committed yet: never beyond a record that is held back."""
        offsets = dict(self._done)
        for outcome in held:
            record = outcome.received.record
            place = TopicPartition(record.topic, record.partition)
            offsets[place] = min(offsets[place], record.offset)
        return {place: offset for place, offset in offsets.items() if self.committed.get(place) != offset}

    def settled(self, place: TopicPartition) -> int | None:
        """Return up to where a partition is done or held back as a reject; None: not known yet."""
        return self._done.get(place, self.committed.get(place))

    def pass_over(self, place: TopicPartition, offset: int) -> None:
        """Take everything below for done: Kafka no longer has it."""
        self._done[place] = offset

    async def learn(self, consumer: AIOKafkaConsumer, places: Iterable[TopicPartition]) -> None:
        """Ask Kafka, once an assignment, where each of these assigned partitions stands.

        Raises:
            KafkaError: Kafka does not answer now.
        """
        committed = self.committed  # what comes after the partitions changed hands is not of interest
        for place in [place for place in places if place not in committed]:
            committed.setdefault(place, await _asked(consumer, place))

    async def standing(
        self, consumer: AIOKafkaConsumer, places: Collection[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Return where each of these stands; one of another member's is asked for anew, since it moves without us.

        Raises:
            KafkaError: Kafka does not answer now.
        """
        committed, mine = self.committed, consumer.assignment()
        await self.learn(consumer, [place for place in places if place in mine])
        known = {place: committed[place] for place in places if place in mine and place in committed}
        return known | {place: await _asked(consumer, place) for place in places if place not in known}

    def clear(self) -> None:
        """Forget all: the partitions change hands."""
        self._done = {}
        self.committed = {}  # a new one: an answer of Kafka that is still under way belongs to the old one


async def _asked(consumer: AIOKafkaConsumer, place: TopicPartition) -> int:
    offset: int | None = await consumer.committed(place)
    if offset is None:
        offset = (await consumer.beginning_offsets([place]))[place]
    return offset
