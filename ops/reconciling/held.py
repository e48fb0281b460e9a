"""What storage holds, by its documented view without personal data; and how far it is behind."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from ops.ending import NotNow, connected
from schemas import topics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    import asyncpg

_LOOK_EVERY_S = 0.5

_OF_TASK = "SELECT event_id::text, record_id FROM dial_result_masked WHERE merchant = $1 AND task_id = $2"
_TASKS = "SELECT DISTINCT task_id FROM dial_result_masked WHERE merchant = $1 AND received_at >= $2 ORDER BY task_id"
_RECORDS = """
SELECT DISTINCT record_id FROM dial_result_masked WHERE merchant = $1 AND task_id = $2 AND record_id = ANY($3::text[])
"""


@dataclass
class Held:
    """One task's results in storage: record ids by event id, event ids by record id."""

    events: dict[str, str] = field(default_factory=dict)
    records: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


async def of_task(connection: asyncpg.Connection, merchant: str, task_id: str) -> Held:
    """Read what storage holds of a task."""
    held = Held()
    for event_id, record_id in await connection.fetch(_OF_TASK, merchant, task_id):
        held.events[event_id] = record_id
        held.records[record_id].append(event_id)
    return held


async def tasks_since(connection: asyncpg.Connection, merchant: str, since: datetime) -> list[str]:
    """Name the tasks of which something was received since then."""
    return [row["task_id"] for row in await connection.fetch(_TASKS, merchant, since)]


async def records_held(connection: asyncpg.Connection, merchant: str, task_id: str, records: Iterable[str]) -> set[str]:
    """Say of which of these records storage holds anything now."""
    found = await connection.fetch(_RECORDS, merchant, task_id, list(records))
    return {row["record_id"] for row in found}


async def caught_up(options: Mapping[str, Any], limit_s: float) -> None:
    """Wait until storage has what is in the topic now: what is on its way would look missing.

    Raises:
        NotNow: it has not, after `limit_s`; or no broker answers, or the topic is missing.
        KafkaError: Kafka does not answer any more.
    """
    consumer = AIOKafkaConsumer(**options, group_id=topics.group("storage"), enable_auto_commit=False)
    async with connected(consumer):
        await consumer._client.force_metadata_update()  # noqa: SLF001  # of all topics: asking for one might create it
        partitions = [
            TopicPartition(topics.DIAL_RESULTS, number)
            for number in consumer.partitions_for_topic(topics.DIAL_RESULTS) or ()
        ]
        if not partitions:
            raise NotNow(f"the topic {topics.DIAL_RESULTS} is missing: `dial-results topics apply` makes it")
        consumer.assign(partitions)  # as one of the group that never joins it
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        await _until_committed(
            consumer, {each: ends[each] for each in partitions if ends[each] > begins[each]}, limit_s
        )


async def _until_committed(consumer: Any, ends: Mapping[TopicPartition, int], limit_s: float) -> None:  # noqa: ANN401
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    while True:
        behind = sum([max(0, end - (await consumer.committed(each) or 0)) for each, end in ends.items()])
        if not behind:
            return
        if loop.time() > deadline:
            raise NotNow(f"storage is {behind:,} records behind the topic: what is on its way would look missing")
        await asyncio.sleep(_LOOK_EVERY_S)
