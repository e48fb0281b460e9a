"""Blu's clock, which can be sped up: five minutes between two attempts need not take five minutes."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Clock(Protocol):
    """Waits, in Blu's seconds."""

    async def wait(self, stopping: asyncio.Event, seconds: float) -> bool:
        """Wait for so many of Blu's seconds; return True at once when `stopping` is set meanwhile."""


class SpedUpClock:
    """Lets `speed` of Blu's seconds pass in one."""

    def __init__(self, speed: float) -> None:
        self._speed = speed

    async def wait(self, stopping: asyncio.Event, seconds: float) -> bool:
        return await wait_real(stopping, seconds / self._speed)


async def wait_real(stopping: asyncio.Event, seconds: float) -> bool:
    """Wait for real seconds; return True at once when `stopping` is set meanwhile."""
    try:
        async with asyncio.timeout(seconds):
            return await stopping.wait()
    except TimeoutError:
        return False
