"""The journal as the receiver sees it: append, durable on return; read on; mark what the broker has."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Self

import structlog

from receiver.journal.disk import Disk
from receiver.journal.errors import JournalError, JournalFailed, JournalFull, JournalUnavailable
from receiver.journal.frame import Entry, JournaledCallback
from receiver.journal.keeper import Keeper
from receiver.journal.limits import JournalLimits
from receiver.journal.reception import Reception
from receiver.journal.segment import Segment
from receiver.journal.store import Store
from receiver.journal.waiting import Done
from receiver.journal.writer import Writer

log = structlog.get_logger()

_STOP_S = 5.0  # beyond the commit budget; a disk that hangs longer is left to the next start


class Journal:
    """Appending, waiting and closing belong to one event loop; `read` and `mark_published` may run in other threads.

    After an I/O error `failed` is set and everything raises JournalFailed: the process should end, and the next start
    verifies what is on disk.
    """

    def __init__(self, store: Store, limits: JournalLimits) -> None:
        """Starts the threads. Use `open`."""
        self._store = store
        self._waiting_bytes = limits.waiting_bytes
        self._stop_s = limits.commit_budget_s + _STOP_S
        self._reception = Reception(limits.commit_budget_s, limits.waiting_bytes)
        self._keeper = Keeper(store, self._reception.broken)
        group_bytes = min(limits.group_bytes, store.segment_bytes // 2)
        self._writer = Writer(store, group_bytes, self._reception, self._keeper.poke, self._reception.soon)
        self._keeper.start()
        self._writer.start()

    @classmethod
    def open(cls, folder: Path, limits: JournalLimits, disk: Disk | None = None) -> Self:
        """Recover the journal in this folder, or make one, and keep other processes out. Blocks, for less than 2 s.

        Raises JournalLocked, JournalFailed. A full disk or a damaged journal is no reason not to start.
        """
        try:
            return cls(Store(folder, limits, disk or Disk()), limits)
        except OSError as error:
            raise JournalFailed("the journal's folder cannot be read or written") from error

    async def append(self, merchant: str, body: bytes, received_ms: int) -> int:
        """Return its sequence once it is on disk. Raises JournalFull, JournalUnavailable, JournalFailed."""
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def done(outcome: int | JournalError) -> None:
            if told.done():
                return  # its sender has gone
            if isinstance(outcome, JournalError):
                told.set_exception(outcome)
            else:
                told.set_result(outcome)

        self.append_nowait(merchant, body, received_ms, done)
        return await told

    def append_nowait(self, merchant: str, body: bytes, received_ms: int, done: Done) -> None:
        """The same without a coroutine: `done` is called on the loop, for a whole commit group in one go.

        Raises JournalFull, JournalUnavailable, JournalFailed at once where that is known at once; `done` is then
        never called. Otherwise it is called exactly once, and should not raise.
        """
        if self._store.full:
            raise JournalFull("no room for another segment")
        if self._writer.queued_bytes > self._waiting_bytes:  # the disk hangs: late senders have gone, their bodies not
            raise JournalUnavailable("too many bytes wait for the disk")
        self._writer.put(self._reception.enter(Entry(received_ms, merchant.encode(), body), done))

    def read(self, after: int, max_callbacks: int, max_bytes: int) -> list[JournaledCallback]:
        """Return the next durable callbacks behind `after`, one at least if there is any. Blocks, briefly.

        Every checksum is verified; damaged bytes are set aside and stepped over. Raises JournalFailed.
        """
        try:
            return self._store.read(after, max_callbacks, max_bytes)
        except OSError as error:
            self._reception.broken(error)
            raise self._reception.refusal() from error

    async def wait(self, after: int) -> None:
        """Return when there is something durable behind `after`."""
        await self._reception.grown(lambda: self._store.has_more(after))

    def has_more(self, after: int) -> bool:
        """Tell whether there is something durable behind `after`, besides what is known to be damage."""
        return self._store.has_more(after)

    def mark_published(self, sequence: int) -> None:
        """Return when the mark is on disk: about two fdatasync. Raises JournalFailed; ValueError beyond `last`."""
        try:
            self._store.mark_published(sequence)
        except OSError as error:
            self._reception.broken(error)
            raise self._reception.refusal() from error
        self._reception.advanced(sequence)
        if self._store.full:
            self._keeper.poke()

    async def emptied(self) -> None:
        """Return when everything is published."""
        await self._reception.published(lambda: self.waiting == 0)

    def segments_behind(self, after: int) -> list[Segment]:
        """Return the segments that hold something durable behind this sequence, in order; not to be changed."""
        return self._store.segments_behind(after)

    async def close(self) -> None:
        """Refuse what comes, commit what waits, close the files, let the next process in."""
        if self._reception.closing:
            return
        self._reception.closing = True
        self._writer.hand_over()
        if not await asyncio.to_thread(self._stop):
            log.error("journal_not_closed", reason="the disk failed or does not answer")
        self._reception.close()

    def _stop(self) -> bool:
        if not (self._writer.stop(self._stop_s) and self._keeper.stop(self._stop_s)):
            return False
        try:
            self._store.close()
        except OSError as error:
            self._reception.broken(error)
        return not self._reception.is_broken

    @property
    def path(self) -> Path:
        """The journal's folder."""
        return self._store.path

    @property
    def failed(self) -> asyncio.Event:
        """Set after an I/O error, on the loop that appends or waits."""
        return self._reception.failed

    @property
    def on_published(self) -> Callable[[int], None] | None:
        """What is called on the loop, with the sequence, whenever more has reached the broker; none at first."""
        return self._reception.on_published

    @on_published.setter
    def on_published(self, call: Callable[[int], None]) -> None:
        self._reception.on_published = call

    @property
    def published(self) -> int:
        """Every callback up to this sequence has reached the broker."""
        return self._store.published

    @property
    def last(self) -> int:
        """The last durable sequence."""
        return self._store.last

    @property
    def waiting(self) -> int:
        """Callbacks that are durable and not published yet."""
        return self._store.last - self._store.published

    @property
    def bytes_used(self) -> int:
        """Of the disk, by segments: waiting, written, prepared, and kept as insurance."""
        return self._store.bytes_used

    @property
    def full(self) -> bool:
        """Whether there is no room for another segment; mends itself."""
        return self._store.full

    @property
    def damaged_bytes(self) -> int:
        """Set aside by this process."""
        return self._store.damages.size_bytes

    @property
    def damaged_callbacks(self) -> int:
        """Known to be missing, by their neighbours' sequences; found by this process."""
        return self._store.damages.missing
