"""Whether the partitions in hand are still ours to work on."""

from __future__ import annotations

import asyncio

from consumers.errors import Interrupted


class Tenure:
    """Ends with a revocation or a stop. Who works on a batch remembers `number`: another one means it is void."""

    def __init__(self) -> None:
        self.number = 0
        self._ending = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self) -> None:
        """Start anew, with partitions just assigned."""
        self.number += 1
        self._ending.clear()

    async def end(self, limit_s: float) -> bool:
        """End all waiting between attempts at once; wait for work in progress. Tells whether that finished in time."""
        self._ending.set()
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        finally:
            self.number += 1
        return True

    async def pause(self, seconds: float) -> None:
        """Wait between two attempts.

        Raises:
            Interrupted: the tenure ends.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            return
        raise Interrupted

    def check(self, number: int) -> None:
        """Raise Interrupted if that tenure is over."""
        if number != self.number:
            raise Interrupted

    def __enter__(self) -> None:
        """Work on a batch: `end` waits for it."""
        self._idle.clear()

    def __exit__(self, *_: object) -> None:
        self._idle.set()
