"""Keeps calls below a destination's limit: at most so many in any window of time."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Clock(Protocol):
    """Seconds that never go back, and a way to let them pass. Tests move their own."""

    def now(self) -> float: ...
    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SlidingWindow:
    """At most `calls` in any `window_s` seconds, by the destination's clock too, and first come, first served.

    A call takes its place from its start until a window after its *end*: the destination counted it somewhere between,
    so whatever the network delays, the call that takes the place next is counted at least a window later.
    """

    def __init__(self, calls: int, window_s: float, clock: Clock | None = None) -> None:
        self._window_s = window_s
        self._clock = clock or SystemClock()
        self._running = asyncio.Semaphore(calls)
        self._free_at = deque([float("-inf")] * calls)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place, hold it for the body."""
        async with self._running:
            async with self._turn:
                await self._clock.sleep(max(0.0, self._free_at[0] - self._clock.now()))
                self._free_at.popleft()
            try:
                yield
            finally:
                self._free_at.append(self._clock.now() + self._window_s)
