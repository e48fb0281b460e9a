"""Which replayed results came ahead of their live record: those are left to the live one.

First-seen is what stands first in the live topic. A replayed late copy that is written before its live partition got so
far would count as the first, and make its result newer than it is, for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka import TopicPartition

from schemas import topics

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiokafka import AIOKafkaConsumer

    from consumers.progress import Progress

Place = tuple[int, int]
"""Partition and offset of a live record."""


async def ahead(consumer: AIOKafkaConsumer, progress: Progress, originals: Collection[Place]) -> set[Place]:
    """Return which of these live records the live partitions are sure to bring yet.

    Not those that Kafka no longer has (retention), or never had (a topic made anew): no live one comes of them.

    Raises:
        KafkaError, TimeoutError: Kafka does not answer now.
    """
    there = consumer.partitions_for_topic(topics.DIAL_RESULTS) or set()
    places = {number: TopicPartition(topics.DIAL_RESULTS, number) for number, _ in originals if number in there}
    committed = await progress.standing(consumer, places.values())
    undone = {(number, at) for number, at in originals if number in places and at >= committed[places[number]]}
    if not undone:
        return undone
    asked = [places[number] for number in {number for number, _ in undone}]
    first, end = await consumer.beginning_offsets(asked), await consumer.end_offsets(asked)
    return {(number, at) for number, at in undone if first[places[number]] <= at < end[places[number]]}
