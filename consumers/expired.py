"""Notices when a topic's retention passes this consumer: aiokafka goes on behind the hole without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from aiokafka import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka import AIOKafkaConsumer

    from consumers.metrics import Metrics
    from consumers.progress import Progress
    from consumers.received import Received
    from consumers.status import Status

log = structlog.get_logger()


class Expired:
    """Counts what Kafka deleted before it was done. The alarm stays until the process ends: somebody has to look."""

    def __init__(self, consumer: AIOKafkaConsumer, progress: Progress, status: Status, metrics: Metrics) -> None:
        self._consumer = consumer
        self._progress = progress
        self._status = status
        self._metrics = metrics
        self._told: dict[TopicPartition, int] = {}  # a batch with a hole before it may come again

    async def before(self, batch: Sequence[Received]) -> None:
        """Look whether each partition of the batch goes on where the last one ended.

        A hole is no loss where the log begins before it: markers of transactions take an offset too.

        Raises:
            KafkaError: Kafka does not answer now.
        """
        begins = {(one.record.topic, one.record.partition): one.record.offset for one in reversed(batch)}
        places = {TopicPartition(*place): offset for place, offset in begins.items()}
        await self._progress.learn(self._consumer, places)
        holes = {place: offset for place, offset in places.items() if offset > self._next(place, offset)}
        if holes:
            first = await self._consumer.beginning_offsets(list(holes))
            for place, offset in holes.items():
                self._tell(place, min(offset, first[place]))

    async def standing_still(self, ends: Mapping[TopicPartition, int]) -> None:
        """Look for partitions of which nothing is left; only while nothing that was fetched waits or is written.

        Raises:
            KafkaError: Kafka does not answer now.
        """
        behind = [place for place, end in ends.items() if self._next(place, end) < end]
        first = await self._consumer.beginning_offsets(behind) if behind else {}
        for place in behind:
            position = await self._consumer.position(place)
            if first[place] == ends[place] == position and self._next(place, position) < position:
                self._tell(place, position)
                self._progress.pass_over(place, position)

    def _next(self, place: TopicPartition, unknown: int) -> int:
        settled = self._progress.settled(place)
        return unknown if settled is None else max(settled, self._told.get(place, 0))

    def _tell(self, place: TopicPartition, until: int) -> None:
        since = self._next(place, until)
        if since >= until:
            return
        self._told[place] = until
        self._status.expired += until - since
        self._metrics.expired.inc(until - since)
        log.error(
            "records_expired_before_they_were_done",
            topic=place.topic,
            partition=place.partition,
            from_offset=since,
            to_offset=until,
            records=until - since,
        )
