"""Follows `dial-results.erased`: whose results this consumer leaves out, and who is still to be erased."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiokafka import TopicPartition

from schemas import erasure, topics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import AIOKafkaConsumer

    from consumers.received import Received
    from consumers.sink import Delivery
    from schemas.erasure import Erasure

_POLL_MS = 500


class Suppression:
    """Every process of a consumer reads the whole topic, without a group. In memory: some 200 bytes a contact."""

    def __init__(self, reader: AIOKafkaConsumer) -> None:
        self._reader = reader
        self._place = TopicPartition(topics.erased(), 0)
        self._keys: set[bytes] = set()
        self._read = asyncio.Event()
        self._sure_of = -1
        self.asked: asyncio.Queue[Erasure] = asyncio.Queue()
        """Erasures as they come, from the beginning of the topic."""

    async def run(self) -> None:
        """Read until cancelled. Raises KafkaError where Kafka refuses for good."""
        self._reader.assign([self._place])
        await self._reader.seek_to_beginning(self._place)
        while True:
            for records in (await self._reader.getmany(timeout_ms=_POLL_MS)).values():
                for record in records:
                    self._take(record.key or b"", record.value)
            self._read.set()

    async def be_sure(self, tenure: int) -> None:
        """Return when everything is read that stood there when these partitions were assigned.

        What another process erased before it let go of them is known here before the first write.

        Raises:
            KafkaError: Kafka cannot be asked now.
        """
        if tenure == self._sure_of:
            return
        end = (await self._reader.end_offsets([self._place]))[self._place]
        while not self._reader.assignment() or await self._reader.position(self._place) < end:
            self._read.clear()
            await self._read.wait()
        self._sure_of = tenure

    def spares(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return those that are not to be left out."""
        return [one for one in deliveries if one.event.key not in self._keys] if self._keys else deliveries

    def holds_record(self, one: Received) -> bool:
        """Tell the same of a record, also where it cannot be decoded."""
        return bool(self._keys) and (one.delivery.event.key if one.delivery else one.record.key) in self._keys

    def _take(self, key: bytes, value: bytes | None) -> None:
        """An empty value, which Kafka compacts away, ends the suppression: for a contact that was erased by mistake."""
        if value is None:
            self._keys.discard(key)
            return
        self._keys.add(key)
        if (asked := erasure.decode(key, value)) is not None:
            self.asked.put_nowait(asked)
