"""For those whose disk can vanish with the machine: an answer waits a while for the broker, then goes out anyway."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.counts import Counts
    from receiver.errors import Refused
    from receiver.journal import JournalError

    Outcome = int | JournalError | Refused


class AckWait:
    """Holds back answers to callbacks that are in the journal, so each of them may go out at any time.

    One event loop's. An answer goes when the broker has its callback, after `wait_s`, at once while `most` are held
    already, and when waiting ends.
    """

    def __init__(self, wait_s: float, most: int, counts: Counts) -> None:
        self._wait_s = wait_s
        self._most = most
        self._counts = counts
        self._held: deque[tuple[int, float, Callable[[], object]]] = deque()  # ascending by sequence and by deadline
        self._published = 0
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    def behind(self, done: Callable[[Outcome], None]) -> Callable[[Outcome], None]:
        """Return what the journal is to call in the place of `done`: refusals go on at once."""

        def stored(outcome: Outcome) -> None:
            if isinstance(outcome, int):
                self.hold(outcome, lambda: done(outcome))
            else:
                done(outcome)

        return stored

    async def passed(self, sequence: int) -> None:
        """Return when the answer to this callback may go out."""
        may_go = asyncio.Event()
        self.hold(sequence, may_go.set)
        await may_go.wait()

    def hold(self, sequence: int, answer: Callable[[], object]) -> None:
        """Call `answer` once, now or later."""
        if sequence <= self._published:
            answer()
            return
        loop = asyncio.get_running_loop()
        self._held.append((sequence, loop.time() + self._wait_s, answer))
        if self._over or len(self._held) > self._most:
            self._let_go()
        elif self._timer is None:
            self._timer = loop.call_at(self._held[0][1], self._late)

    def published(self, sequence: int) -> None:
        """Take note that the broker has everything up to here."""
        self._published = sequence
        while self._held and self._held[0][0] <= sequence:
            self._held.popleft()[2]()

    def end(self) -> None:
        """Let all go, now and from now on: the receiver stops."""
        self._over = True
        while self._held:
            self._let_go()

    def _late(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._held and self._held[0][1] <= loop.time():
            self._let_go()
        if self._held:
            self._timer = loop.call_at(self._held[0][1], self._late)

    def _let_go(self) -> None:
        self._counts.ack_waits_over += 1
        self._held.popleft()[2]()
