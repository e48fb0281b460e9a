"""The writer: one thread that takes all waiting callbacks as one group, and commits it with one fdatasync."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from receiver.journal.errors import JournalFull
from receiver.journal.store import Store
from receiver.journal.waiting import Waiting

_LONGEST_SLEEP_S = 60.0
_TURN_CALLBACKS = 256  # of one turn of the event loop; more are handed over meanwhile, and received while these sync


class Told(Protocol):
    """What the writer tells, once a group, on its own thread."""

    def committed(self, group: list[Waiting], first: int) -> None: ...
    def refused(self, group: list[Waiting], error: JournalFull) -> None: ...
    def broken(self, error: BaseException | None) -> None: ...


class Writer:
    """A slow disk needs no rule of its own: while one group is on its way, the next one grows.

    Nor does a busy core: a commit costs as much processor time as twenty callbacks, so the writer gets what came in one
    turn of the event loop together, not the first callback alone. Without that it ran ahead of the loop, committed ten
    at a time under full load, and acknowledged half as many (`docs/journal.md`).
    """

    def __init__(
        self,
        store: Store,
        group_bytes: int,
        told: Told,
        want_segment: Callable[[], None],
        soon: Callable[[Callable[[], None]], object],
    ) -> None:
        """`soon` has the event loop call something at the end of its turn."""
        self._store = store
        self._soon = soon
        self._turn: list[Waiting] = []  # belongs to the event loop
        self._group_bytes = group_bytes
        self._told = told
        self._want_segment = want_segment
        self._queue: deque[Waiting] = deque()
        self._put_bytes = 0  # written by the event loop alone
        self._taken_bytes = 0  # written by the writer alone
        self._wake = threading.Lock()  # released to wake the writer: a tenth of what a Condition costs
        self._wake.acquire()
        self._awake = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, waiting: Waiting) -> None:
        """Called by one thread only, the event loop's."""
        self._put_bytes += len(waiting.entry.body)
        self._turn.append(waiting)
        if len(self._turn) == 1:
            self._soon(self.hand_over)
        elif len(self._turn) >= _TURN_CALLBACKS:
            self.hand_over()

    def hand_over(self) -> None:
        """Let the writer have what came so far. Called by the event loop's thread."""
        if self._turn:
            self._queue.extend(self._turn)
            self._turn.clear()
            self._nudge()

    @property
    def queued_bytes(self) -> int:
        """Bodies that are still held here, those whose senders were turned away meanwhile included."""
        return self._put_bytes - self._taken_bytes

    def stop(self, timeout_s: float) -> bool:
        """Commit what waits, then end. Return whether that was done in time. Blocks."""
        self._stopping = True
        self._nudge()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _nudge(self) -> None:
        if not self._awake:  # set before the release and unset after the acquire, so it is never released twice
            self._awake = True
            self._wake.release()

    def _sleep(self) -> None:
        age_left_s = self._store.roll_aged()
        self._wake.acquire(timeout=min(age_left_s or _LONGEST_SLEEP_S, _LONGEST_SLEEP_S))
        self._awake = False

    def _run(self) -> None:
        error: BaseException | None = None
        clean = False
        try:
            while self._queue or not self._stopping:
                if group := self._take():
                    self._commit(group)
                elif not self._stopping:
                    self._sleep()
            clean = True
        except OSError as caught:
            error = caught
        finally:
            if not clean:  # a bug ends the thread too, and must not leave the senders waiting
                self._told.broken(error)

    def _take(self) -> list[Waiting]:
        """Return all that wait, up to the group's size, but those that were turned away meanwhile."""
        group = []
        room = self._group_bytes
        while self._queue and room > 0:
            waiting = self._queue.popleft()
            self._taken_bytes += len(waiting.entry.body)
            if waiting.done is not None:
                group.append(waiting)
                room -= len(waiting.entry.body)
        return group

    def _commit(self, group: list[Waiting]) -> None:
        try:
            first = self._store.commit([waiting.entry for waiting in group])
        except JournalFull as full:
            self._told.refused(group, full)
        else:
            self._told.committed(group, first)
        if self._store.wants_segment:
            self._want_segment()
