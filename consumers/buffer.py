"""Between the task that fetches and the task that writes: the next batch, gathered while the last one is written."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumers.received import Received
    from consumers.sink import Batching


class Buffer:
    """Holds at most `batching.max_events`, and `max_bytes` plus what one fetch brings beyond that.

    It is shut while partitions change hands: what it held is dropped then, since nobody will commit it.
    """

    def __init__(self, batching: Batching) -> None:
        self._batching = batching
        self._held: list[Received] = []
        self._bytes = 0
        self._since = 0.0
        self._open = True
        self._some = asyncio.Event()
        self._full = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def room(self) -> int:
        """How many more records may be fetched; 0: none."""
        return 0 if self._full.is_set() else self._batching.max_events - len(self._held)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._held

    def add(self, received: Sequence[Received]) -> None:
        """Take records, in order; while shut they are dropped."""
        if not self._open or not received:
            return
        if not self._held:
            self._since = asyncio.get_running_loop().time()
        self._held += received
        self._bytes += sum(map(_size, received))
        self._tell()

    async def take(self) -> list[Received]:
        """Wait for records, and for more of them as long as the sink's linger says; return one batch."""
        while True:
            await self._some.wait()
            await self._linger()
            if batch := self._cut():
                return batch

    async def wait_for_room(self, limit_s: float) -> bool:
        """Tell whether there is room within this time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._room.wait()
        return self._room.is_set()

    def shut(self) -> None:
        """Drop everything and take nothing until `open`."""
        self._open = False
        self._held, self._bytes = [], 0
        self._tell()

    def open(self) -> None:
        """Take records again."""
        self._open = True

    async def _linger(self) -> None:
        wait_s = self._since + self._batching.linger_s - asyncio.get_running_loop().time()
        if wait_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._full.wait()

    def _cut(self) -> list[Received]:
        """Take a batch off the front: never more than the sink wants, but always at least one record."""
        if len(self._held) <= self._batching.max_events and self._bytes <= self._batching.max_bytes:
            batch, self._held, self._bytes = self._held, [], 0
        else:
            count, total = self._fitting()
            batch, self._held, self._bytes = self._held[:count], self._held[count:], self._bytes - total
        self._tell()
        return batch

    def _fitting(self) -> tuple[int, int]:
        """Return how many records from the front make a batch, and their bytes."""
        count, total = 0, 0
        for size in map(_size, self._held[: self._batching.max_events]):
            if count and total + size > self._batching.max_bytes:
                break
            count, total = count + 1, total + size
        return count, total

    def _tell(self) -> None:
        full = len(self._held) >= self._batching.max_events or self._bytes >= self._batching.max_bytes
        for event, holds in ((self._some, bool(self._held)), (self._full, full), (self._room, not full)):
            if holds:
                event.set()
            else:
                event.clear()


def _size(received: Received) -> int:
    return len(received.record.value or b"")
