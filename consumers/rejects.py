"""The run of rejects: held back until it is known whether a few records are bad, or the deploy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from consumers.errors import TooManyRejects
from consumers.received import Received

if TYPE_CHECKING:
    from collections.abc import Iterable


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of one record: `reason` is None where it is durable in the sink."""

    received: Received
    reason: str | None
    attempts: int


class RejectRun:
    """Counts rejects in a row and holds them until it is known what they are: a good record after them says it.

    Where everything in Kafka is settled and nothing comes for a while, nothing will say it soon: what is held is let
    go, and still counts, so that a bad deploy on a quiet day stops too. Holds at most `limit` records.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_a_row = 0
        self.held: list[Outcome] = []

    def judge(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Take a batch's outcomes, in order; return the rejects whose run has ended: they may be dead-lettered.

        Raises:
            TooManyRejects: the run is longer than the limit. Nothing of it may be dead-lettered or committed.
        """
        released: list[Outcome] = []
        for outcome in outcomes:
            if outcome.reason is None:
                if self._in_a_row:
                    released += self._end()
                continue
            self._in_a_row += 1
            self.held.append(outcome)
            if self._in_a_row > self._limit:
                reasons = ", ".join(sorted({held.reason or "" for held in self.held}))
                raise TooManyRejects(
                    f"more than {self._limit} rejects in a row ({reasons}): nothing of this run is dead-lettered or "
                    "committed. Mend the cause and start again, or raise CONSUMER_REJECT_LIMIT"
                )
        return released

    def release(self) -> list[Outcome]:
        """Return what is held, since nothing comes. The count goes on until a good record does."""
        released, self.held = self.held, []
        return released

    def clear(self) -> None:
        """Forget all: the partitions are somebody else's now, who will meet the same records."""
        self._end()

    def _end(self) -> list[Outcome]:
        self._in_a_row = 0
        return self.release()
