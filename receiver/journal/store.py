"""The journal without its threads: segments on a disk, written by one caller, read by another, tidied by a third."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from receiver.journal import checkpoint
from receiver.journal.checkpoint import Checkpoint
from receiver.journal.cursor import Cursor
from receiver.journal.damage import DamageFile
from receiver.journal.disk import NO_ROOM, Disk
from receiver.journal.folder import Folder
from receiver.journal.frame import Entry, JournaledCallback, pack, seal
from receiver.journal.limits import JournalLimits
from receiver.journal.recovery import recover
from receiver.journal.segment import Segment
from receiver.journal.shelf import Shelf

log = structlog.get_logger()


class Store:
    """`commit` and `roll_aged` belong to one thread; `tidy`, `read` and `mark_published` may each run in another.

    Every OSError that leaves a method means: use this object no more, open the folder anew.
    """

    def __init__(
        self, path: Path, limits: JournalLimits, disk: Disk, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Recover what is there; blocks. Raises JournalLocked, OSError."""
        self.path = path
        self._folder = Folder(disk, path)
        self._folder.lock()
        self.damages = DamageFile(self._folder)
        self._reading = threading.Lock()
        self._marking = threading.Lock()
        self._nothing = (0, 0)  # behind the first, up to the second, `read` found damage alone
        try:
            recovered = recover(self._folder, self.damages)
            self.published = recovered.published
            self.last = recovered.last
            self._shelf = Shelf(self._folder, limits, recovered, clock)
            self._shelf.published(self.published)
            self._shelf.prepare()
        except OSError:
            self._folder.unlock()
            raise
        self._cursor = Cursor(disk, self._shelf.listed, self.damages)

    @property
    def full(self) -> bool:
        return self._shelf.full

    @property
    def bytes_used(self) -> int:
        return self._shelf.bytes_used

    @property
    def segment_bytes(self) -> int:
        """What a segment is given: less than was asked for where quota or disk is small."""
        return self._shelf.segment_bytes

    @property
    def wants_segment(self) -> bool:
        """Tell whether `tidy` should prepare one now."""
        return self._shelf.wants_segment

    def commit(self, entries: Sequence[Entry]) -> int:
        """Return the sequence of the first one when all are on disk. Raises JournalFull (nothing written), OSError."""
        frame = pack(entries)
        segment = self._shelf.segment_for(len(frame))
        first, last = self.last + 1, self.last + len(entries)
        seal(frame, segment.identity, first, len(entries))
        try:
            segment.append(self._folder.disk, frame, first, last)
        except OSError:
            self._shelf.abandon()
            raise
        self.last = last
        return first

    def roll_aged(self) -> float | None:
        """Close the written segment if its age is up. Return seconds until it will be, None if nothing is written."""
        return self._shelf.roll_aged()

    def read(self, after: int, max_callbacks: int, max_bytes: int) -> list[JournaledCallback]:
        """Return the next durable callbacks behind `after`, at least one if there is any. Raises OSError."""
        with self._reading:
            durable = self.last
            callbacks = self._cursor.read(after, max_callbacks, max_bytes)
            if not callbacks:
                self._nothing = (after, durable)
            return callbacks

    def has_more(self, after: int) -> bool:
        """Tell whether there is something behind `after`, besides what `read` has found to be nothing but damage."""
        looked_from, looked_to = self._nothing
        return self.last > after and not (after >= looked_from and self.last <= looked_to)

    def segments_behind(self, after: int) -> list[Segment]:
        """Return those that hold something behind `after`, in order."""
        return [one for one in self._shelf.listed() if one.first is not None and one.last > after]

    def mark_published(self, sequence: int) -> None:
        """Return when the mark is on disk. Raises OSError, but not for a full disk: then the mark is held in memory.

        Raises ValueError for what is not durable yet.
        """
        with self._marking:
            if sequence > self.last:
                raise ValueError(f"{sequence} cannot have been published, the last durable one is {self.last}")
            if sequence <= self.published:
                return
            self._save(Checkpoint(sequence, self._shelf.number))
            self.published = sequence
            self._shelf.published(sequence)

    def tidy(self) -> float | None:
        """Prepare the next segment, remove published ones whose insurance is over.

        Return seconds until there is something to do again, None if nothing is known of. Raises OSError.
        """
        self._shelf.prepare()
        return self._shelf.expire()

    def close(self) -> None:
        """Raises OSError."""
        self._shelf.close()
        with self._reading:
            self._cursor.close()
        self._folder.unlock()

    def _save(self, mark: Checkpoint) -> None:
        try:
            checkpoint.save(self._folder, mark)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            log.warning("journal_checkpoint_not_saved", reason="disk full", consequence="a restart sends more again")
