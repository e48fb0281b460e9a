"""How long the event loop kept everybody waiting: who does too much at a stretch shows up here."""

from __future__ import annotations

import asyncio
import time

_TICK_S = 0.01  # a stall is seen short by at most this
_SLOT_S = 15.0  # the usual period of scraping, so that each stall is in one scrape at least


class Stalls:
    """Wakes up every 10 ms and notes by how much it was late."""

    def __init__(self) -> None:
        self._slot = self._slot_before = 0.0

    @property
    def largest_s(self) -> float:
        """The largest stall of the last 15 to 30 seconds."""
        return max(self._slot, self._slot_before)

    async def watch(self) -> None:
        """Measure, until it is cancelled."""
        while True:
            self._slot, self._slot_before = 0.0, self._slot
            slot_ends = time.monotonic() + _SLOT_S
            while (before := time.monotonic()) < slot_ends:
                await asyncio.sleep(_TICK_S)
                self._slot = max(self._slot, time.monotonic() - before - _TICK_S)
