"""Where the journal's threads meet the event loop: what they did is told there, once a group."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from receiver.journal.errors import JournalError, JournalFailed, JournalFull, JournalUnavailable
from receiver.journal.frame import Entry
from receiver.journal.waiting import Done, Waiting, WaitingRoom

log = structlog.get_logger()


class Reception:
    """Bound to the loop that runs when it is made, else to that of its first caller.

    `committed`, `refused` and `broken` may be called from any thread.
    """

    def __init__(self, budget_s: float, max_waiting_bytes: int) -> None:
        self.failed = asyncio.Event()
        self.closing = False
        self._budget_s = budget_s
        self._max_waiting_bytes = max_waiting_bytes
        self._failure: tuple[BaseException | None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._room: WaitingRoom | None = None
        self._grown = asyncio.Event()
        self._advanced = asyncio.Event()
        self.on_published: Callable[[int], None] | None = None
        with suppress(RuntimeError):  # made in a thread without a loop
            self._bind()

    def enter(self, entry: Entry, done: Done) -> Waiting:
        """Raises JournalUnavailable, JournalFailed."""
        room = self._room or self._bind()
        if self._failure or self.closing:
            raise self.refusal()
        return room.enter(entry, done)

    def soon(self, call: Callable[[], None]) -> None:
        """Have the loop call it at the end of its turn. For the loop's own thread, once somebody has entered."""
        if self._loop:
            self._loop.call_soon(call)

    async def grown(self, enough: Callable[[], bool]) -> None:
        """Return once something new is durable that is enough."""
        if self._room is None:
            self._bind()
        while not enough():
            self._grown.clear()
            await self._grown.wait()

    async def published(self, enough: Callable[[], bool]) -> None:
        """Return once so much is published that it is enough."""
        while not enough():
            self._advanced.clear()
            await self._advanced.wait()

    def advanced(self, sequence: int) -> None:
        """Tell that everything up to here has reached the broker. May be called from any thread."""
        self._on_loop(self._tell_published, sequence)

    def committed(self, group: list[Waiting], first: int) -> None:
        self._on_loop(self._settle, group, first)

    def refused(self, group: list[Waiting], error: JournalFull) -> None:
        if self._room:
            self._on_loop(self._room.refused, group, error)

    def broken(self, error: BaseException | None) -> None:
        """Let everyone that waits, and everyone that comes, know that the disk failed."""
        if self._failure is None:
            self._failure = (error,)
            log.error("journal_failed", error=type(error).__name__, errno=getattr(error, "errno", None))
            self._on_loop(self._give_up)

    @property
    def is_broken(self) -> bool:
        return self._failure is not None

    def refusal(self) -> JournalError:
        """Return what to raise now that nothing is taken any more."""
        if self._failure is None:
            return JournalUnavailable("the journal is closing")
        error = JournalFailed("the disk reported an error")
        error.__cause__ = self._failure[0]
        return error

    def close(self) -> None:
        """Refuse everyone that still waits."""
        if self._room:
            self._room.refuse_all(self.refusal())
            self._room.close()

    def _bind(self) -> WaitingRoom:
        self._loop = asyncio.get_running_loop()
        self._room = WaitingRoom(self._loop, self._budget_s, self._max_waiting_bytes)
        if self._failure:
            self.failed.set()
        return self._room

    def _on_loop(self, call: Callable[..., None], *args: Any) -> None:  # noqa: ANN401  # handed on as they are
        if self._loop:
            self._loop.call_soon_threadsafe(call, *args)

    def _tell_published(self, sequence: int) -> None:
        self._advanced.set()
        if self.on_published:
            self.on_published(sequence)

    def _settle(self, group: list[Waiting], first: int) -> None:
        self._grown.set()
        if self._room:
            self._room.committed(group, first)

    def _give_up(self) -> None:
        self.failed.set()
        self.close()
