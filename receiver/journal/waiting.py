"""Callbacks on their way to the disk, as the event loop sees them: who waits, for how many bytes, until when."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from receiver.journal.errors import JournalError, JournalUnavailable
from receiver.journal.frame import Entry

Done = Callable[[int | JournalError], None]


class Waiting:
    """One callback and who is to be told. `done` is None once its sender has been told."""

    __slots__ = ("deadline", "done", "entry")

    def __init__(self, entry: Entry, done: Done, deadline: float) -> None:
        self.entry = entry
        self.done: Done | None = done
        self.deadline = deadline


class WaitingRoom:
    """Tells each sender once, in order. All methods belong to the event loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, budget_s: float, max_bytes: int) -> None:
        self._loop = loop
        self._budget_s = budget_s
        self._max_bytes = max_bytes
        self._bytes = 0
        self._waiting: deque[Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, entry: Entry, done: Done) -> Waiting:
        """Raises JournalUnavailable when the room is full."""
        size = len(entry.body)
        if self._bytes + size > self._max_bytes and self._waiting:
            raise JournalUnavailable("too many bytes wait for the disk")
        waiting = Waiting(entry, done, self._loop.time() + self._budget_s)
        self._bytes += size
        self._waiting.append(waiting)
        if self._timer is None:
            self._timer = self._loop.call_at(waiting.deadline, self._turn_away_late)
        return waiting

    def committed(self, group: Sequence[Waiting], first: int) -> None:
        """Tell each of the group its sequence."""
        self._tell(zip(group, range(first, first + len(group)), strict=True))

    def refused(self, group: Sequence[Waiting], error: JournalError) -> None:
        """Tell each of the group, and nobody else."""
        self._tell((waiting, error) for waiting in group)

    def refuse_all(self, error: JournalError) -> None:
        """Tell everyone that still waits."""
        self.refused(list(self._waiting), error)

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _tell(self, outcomes: Iterator[tuple[Waiting, int | JournalError]]) -> None:
        finished = False
        try:
            for waiting, outcome in outcomes:
                done, waiting.done = waiting.done, None
                if done is not None:
                    self._waiting.popleft()  # groups are settled in the order in which they came: this is the one
                    self._bytes -= len(waiting.entry.body)
                    done(outcome)
            finished = True
        finally:
            if not finished:  # a `done` raised: that is the loop's to report, and the others are told all the same
                self._loop.call_soon(self._tell, outcomes)

    def _turn_away_late(self) -> None:
        self._timer = None
        now = self._loop.time()
        late = []
        for waiting in self._waiting:
            if waiting.deadline > now:
                self._timer = self._loop.call_at(waiting.deadline, self._turn_away_late)
                break
            late.append(waiting)
        if late:
            self.refused(late, JournalUnavailable("the disk was too slow"))
