"""Fetches and decodes into the buffer; where that is full, keeps the membership alive without fetching."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.received import receive_all
from schemas import topics

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

    from consumers.buffer import Buffer

_POLL_MS = 500
_PATIENCE_S = 1.0  # a usual write is over by then; pausing throws away what the client has fetched ahead


class Fetcher:
    """The only one that polls. Partitions are paused here, and nowhere else."""

    def __init__(self, consumer: AIOKafkaConsumer, buffer: Buffer) -> None:
        self._consumer = consumer
        self._buffer = buffer
        self._all_held = False
        self._replay_held = False

    async def run(self) -> None:
        """Poll until cancelled.

        Raises:
            KafkaError: Kafka refuses, for a reason that the client does not mend by itself.
        """
        while True:
            if room := self._buffer.room:
                await self._fetch(_POLL_MS, room)
            elif not await self._buffer.wait_for_room(_PATIENCE_S):
                await self._hold()

    def hold_replays(self, *, hold: bool) -> None:
        """Stop fetching replays, or go on with them: they must not delay what is live."""
        self._replay_held = hold
        self._pause()

    def assigned(self) -> None:
        """Take note of new partitions: they come without a pause."""
        self._pause()

    async def _fetch(self, timeout_ms: int, room: int) -> None:
        for records in (await self._consumer.getmany(timeout_ms=timeout_ms, max_records=room)).values():
            self._buffer.add(receive_all(records))

    async def _hold(self) -> None:
        """Wait for room, for as long as the sink is away. The group takes a member that does not poll for dead."""
        self._all_held = True
        try:
            while not self._buffer.room:
                self._pause()
                await self._fetch(0, 1)
                await self._buffer.wait_for_room(_PATIENCE_S)
        finally:
            self._all_held = False
            self._pause()

    def _pause(self) -> None:
        assigned = self._consumer.assignment()
        hold = {place for place in assigned if self._all_held or (self._replay_held and self._is_replay(place.topic))}
        paused = self._consumer.paused()
        self._consumer.pause(*(hold - paused))
        self._consumer.resume(*((paused & assigned) - hold))

    @staticmethod
    def _is_replay(topic: str) -> bool:
        return topic != topics.DIAL_RESULTS
