"""What is still on its way between the receiver's journal and the sinks: only when nothing is, a count is final."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from ops.scraping import scraped
from schemas import metrics, topics
from schemas.clients import started

from .places import PlaceAway

if TYPE_CHECKING:
    from collections.abc import Iterable

_ANSWER_S = 15.0
_STOP_S = 1.0


async def journaled(receiver_admin_url: str) -> int:
    """Return how many callbacks wait in the receiver's journal for Kafka. Raises PlaceAway."""
    values = await scraped(receiver_admin_url, _ANSWER_S)
    if values is None or metrics.JOURNAL_WAITING not in values:
        raise PlaceAway("receiver: no answer")
    return values[metrics.JOURNAL_WAITING]


async def lag(bootstrap_servers: str, consumers: Iterable[str] = topics.CONSUMERS) -> int:
    """Return how many events the consumers of `dial-results` have not committed, all together. Raises PlaceAway."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            return sum([await _lag(bootstrap_servers, topics.group(consumer)) for consumer in consumers])
    except (OSError, KafkaError) as error:
        raise PlaceAway(f"Kafka: {type(error).__name__}") from error


async def _lag(bootstrap_servers: str, group: str) -> int:
    """Ask as a consumer of the group that never joins it."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, group_id=group, enable_auto_commit=False)
    async with started(consumer, _ANSWER_S, _STOP_S):
        places = [TopicPartition(topics.DIAL_RESULTS, number) for number in range(topics.PARTITIONS)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        return sum([ends[place] - (await consumer.committed(place) or 0) for place in places])
