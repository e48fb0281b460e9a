"""The receiver's half of the balance: what became of every callback since it was started."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from ops.scraping import scraped
from schemas import metrics

_SETTLE_S = 5.0  # while it publishes, what a window did is counted a moment before the journal's mark has moved
_AGAIN_S = 0.1


@dataclass(frozen=True)
class Callbacks:
    """Callbacks since the receiver's start, all workers together; each in one place on either side."""

    received: int
    acknowledged: int
    refused: int
    recovered: int
    """That waited in the journal when it started."""
    journaled: int
    """Acknowledged ones, and those that were refused when they were on disk already."""
    decoded: int
    quarantined: int
    empty: int
    damaged: int
    waiting: int

    @property
    def lost(self) -> int:
        """How many of the journal's callbacks are nowhere; below 0: more came out than went in."""
        out = self.decoded + self.quarantined + self.empty + self.damaged + self.waiting
        return self.recovered + self.journaled - out

    @property
    def even(self) -> bool:
        """Nothing is lost, and nothing was answered 200 that is not in the journal."""
        answered = self.received <= self.acknowledged + self.refused  # some are refused before anybody knows whose
        return answered and self.acknowledged <= self.journaled and self.lost == 0


async def callbacks(admin_url: str) -> Callbacks | None:
    """Count them when they are even, or after a few seconds of looking; None: the receiver does not answer."""
    until = time.monotonic() + _SETTLE_S
    while (counted := await _counted(admin_url)) and not counted.even and time.monotonic() < until:
        await asyncio.sleep(_AGAIN_S)
    return counted


async def _counted(admin_url: str) -> Callbacks | None:
    values = await scraped(admin_url)
    if values is None or metrics.JOURNALED not in values:  # several workers, and none of them runs
        return None
    return Callbacks(
        received=values[metrics.RECEIVED],
        acknowledged=values[metrics.ACKNOWLEDGED],
        refused=values[metrics.REFUSED],
        recovered=values[metrics.JOURNAL_RECOVERED],
        journaled=values[metrics.JOURNALED],
        decoded=values[metrics.DECODED],
        quarantined=values[metrics.QUARANTINED],
        empty=values[metrics.EMPTY],
        damaged=values[metrics.JOURNAL_DAMAGED],
        waiting=values[metrics.JOURNAL_WAITING] + values[metrics.LEFT_WAITING],
    )
