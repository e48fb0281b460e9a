"""How long the event loop kept everybody waiting: who does too much at a stretch shows up here."""

from __future__ import annotations

import asyncio
import time

_TICK_S = 0.01  # a stall is seen short by at most this
_SLOT_S = 15.0  # the usual period of scraping, so that each stall is in one scrape at least


class Largest:
    """The largest value of this slot of time and of the one before."""

    def __init__(self) -> None:
        self._now = self._before = 0.0

    @property
    def value(self) -> float:
        return max(self._now, self._before)

    def see(self, value: float) -> None:
        """Take one more."""
        self._now = max(self._now, value)

    def next_slot(self) -> None:
        """Forget the slot before."""
        self._now, self._before = 0.0, self._now


class Stalls:
    """Wakes up every 10 ms and notes by how much it was late, and how long the loop computed meanwhile.

    The difference is the machine's: somebody else had the processor, or a call of ours waited for the disk.
    """

    def __init__(self) -> None:
        self.late_s = Largest()
        self.busy_s = Largest()

    async def watch(self) -> None:
        """Measure, until it is cancelled."""
        while True:
            self.late_s.next_slot()
            self.busy_s.next_slot()
            slot_ends = time.monotonic() + _SLOT_S
            while (before := time.monotonic()) < slot_ends:
                worked_before = time.thread_time()
                await asyncio.sleep(_TICK_S)
                late = time.monotonic() - before - _TICK_S
                self.late_s.see(late)
                self.busy_s.see(min(late, time.thread_time() - worked_before))
