"""Reading the quarantine: bodies that could not be read, with why, whose and when."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError

from ops.ending import NotNow, connected
from ops.quarantining import masking
from schemas import topics
from schemas.clients import BOUNDED_FETCH_WAIT_MS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from aiokafka import ConsumerRecord

_FETCH_MS = 1_000
_SILENCES = 30  # fetches in a row that bring nothing, though there is more: then Kafka counts as away

Place = tuple[int, int]
"""Partition and offset in the quarantine."""


@dataclass(frozen=True)
class Kept:
    """One quarantined body. `received_at` is the receiver's, aware, UTC; `index` names the bad one of many records."""

    partition: int
    offset: int
    timestamp_ms: int
    merchant: str
    reason: str
    received_at: datetime
    index: int | None
    body: bytes = field(repr=False)

    @property
    def place(self) -> Place:
        return self.partition, self.offset

    @cached_property
    def shape(self) -> str:
        """What it looks like, without a word of what it says."""
        return masking.shape(self.body)

    @property
    def shape_id(self) -> str:
        return masking.name_of(self.reason, self.shape)


@dataclass(frozen=True)
class Wanted:
    """Which bodies are meant. All has to hold; within one, any of its values; empty: no condition."""

    since: datetime | None = None
    until: datetime | None = None
    merchants: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()

    def matches(self, kept: Kept) -> bool:
        """Tell whether it is meant; the time that counts is that of the receiver."""
        return (
            (self.since is None or kept.received_at >= self.since)
            and (self.until is None or kept.received_at < self.until)
            and (not self.merchants or kept.merchant in self.merchants)
            and (not self.reasons or kept.reason in self.reasons)
            and (not self.places or kept.place in self.places)
            and (not self.shapes or kept.shape_id in self.shapes)
        )

    def for_audit(self) -> dict[str, Any]:
        """Return what was asked for; there is nothing personal in it."""
        said = {name: value for name, value in vars(self).items() if value}
        if self.places:
            said["places"] = [f"{partition}:{offset}" for partition, offset in self.places]
        return said


async def scan(options: Mapping[str, Any], wanted: Wanted) -> AsyncGenerator[Kept, None]:
    """Yield what is meant of all that is there now, partition by partition in parallel, each in order.

    All of it is read: few bodies end here, and one that Kafka keeps without a time is found by no question for times.

    Raises:
        NotNow: no broker answers, or there is no such topic.
        KafkaError: Kafka does not answer any more.
    """
    consumer = AIOKafkaConsumer(
        **options,
        enable_auto_commit=False,
        max_partition_fetch_bytes=topics.MAX_RECORD_BYTES,
        fetch_max_wait_ms=BOUNDED_FETCH_WAIT_MS,
    )
    async with connected(consumer):
        partitions = await _partitions(consumer)
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        begins = await consumer.beginning_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, begins[partition])
        silences = 0
        while behind := [each for each in partitions if await consumer.position(each) < ends[each]]:
            found = await consumer.getmany(*behind, timeout_ms=_FETCH_MS)
            silences = 0 if found else silences + 1
            if silences > _SILENCES:
                raise KafkaTimeoutError
            for partition, records in found.items():
                for record in records:
                    if record.offset < ends[partition] and wanted.matches(kept := _kept(record)):
                        yield kept


async def _partitions(consumer: Any) -> list[TopicPartition]:  # noqa: ANN401  # aiokafka ships no types
    await consumer._client.force_metadata_update()  # noqa: SLF001  # of all topics: asking for one might create it
    numbers = consumer.partitions_for_topic(topics.QUARANTINE) or ()
    if not numbers:
        raise NotNow(f"the topic {topics.QUARANTINE} is missing: `dial-results topics apply` makes it")
    return [TopicPartition(topics.QUARANTINE, number) for number in sorted(numbers)]


def _kept(record: ConsumerRecord[bytes | None, bytes | None]) -> Kept:
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    index = headers.get(topics.RECORD_INDEX, "")
    return Kept(
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        merchant=headers.get(topics.MERCHANT, ""),
        reason=headers.get(topics.REASON, ""),
        received_at=_moment(headers.get(topics.RECEIVED_AT, ""), record.timestamp),
        index=int(index) if index.isdecimal() and len(index) < 5 else None,  # noqa: PLR2004  # at most 1,000 records
        body=record.value or b"",
    )


def _moment(written: str, timestamp_ms: int) -> datetime:
    try:
        return datetime.fromisoformat(written).astimezone(UTC)
    except ValueError:
        return datetime.fromtimestamp(max(0, timestamp_ms) / 1000, UTC)
