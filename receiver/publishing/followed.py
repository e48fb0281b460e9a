"""The journal as the publishing process sees it: another process writes it, and says how far it is durable."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from receiver.journal.cursor import Cursor
from receiver.journal.damage import DamageFile
from receiver.journal.disk import Disk
from receiver.journal.folder import Folder
from receiver.journal.frame import SegmentId
from receiver.journal.segment import Segment
from receiver.publisher import WINDOW_CALLBACKS
from receiver.publishing.messages import Ask, Did, Held, said_by_receiver, tell

if TYPE_CHECKING:
    from pathlib import Path

    from receiver.counts import PublishCounts
    from receiver.journal.frame import JournaledCallback

_TELL_EVERY_S = 0.5


class FollowedJournal:
    """A Source. Bytes are read from the files; only who is to read how far goes over the socket."""

    def __init__(self, path: Path, published: int, counts: PublishCounts, receiver: asyncio.StreamWriter) -> None:
        """`published` is where to begin. Belongs to the running event loop; `read` may run in another thread."""
        self.published = self.last = published
        self._counts = counts
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._folder = Folder(Disk(), path)
        self._damages = DamageFile(self._folder)
        self._segments: list[Segment] = []
        self._cursor = Cursor(self._folder.disk, lambda: self._segments, self._damages)
        self._nothing_up_to = 0  # there `read` found damage alone
        self._there = asyncio.Event()

    async def follow(self, receiver: asyncio.StreamReader) -> None:
        """Listen to the receiver and report to it; return when it is gone."""
        telling = asyncio.create_task(self._tell_on())
        try:
            while line := await receiver.readline():
                self._take(said_by_receiver(line).segments)
                self._there.set()
        except ConnectionError:
            pass
        finally:
            telling.cancel()

    @property
    def waiting(self) -> int:
        """How many are known to wait."""
        return self.last - self.published

    async def wait(self, after: int) -> None:
        """Return when there is something behind this sequence, besides what `read` found to be damaged."""
        asked = max(after, self._nothing_up_to)
        if self.last - asked >= WINDOW_CALLBACKS:  # a backlog is read without a word to a receiver that is busy
            return
        self._there.clear()
        tell(self._receiver, Ask(asked))
        await self._there.wait()

    def read(self, after: int, max_callbacks: int, max_bytes: int) -> list[JournaledCallback]:
        """Return the next ones behind it. Raises OSError."""
        callbacks = self._cursor.read(after, max_callbacks, max_bytes)
        if not callbacks:
            self._nothing_up_to = self.last
        return callbacks

    def mark_published(self, sequence: int) -> None:
        """Have the receiver take note; it writes the mark."""
        self.published = sequence
        self._loop.call_soon_threadsafe(self._tell)

    def _take(self, segments: list[Held]) -> None:
        """Take over what is durable. A segment that is known stays the same object: the cursor stands in it."""
        known = {segment.identity.number: segment for segment in self._segments}
        self._segments = [self._taken(held, known.get(held.number)) for held in segments]
        self.last = max(self.last, *(held.last for held in segments))

    def _taken(self, held: Held, segment: Segment | None) -> Segment:
        if segment is None:
            identity = SegmentId(held.number, held.seed)
            segment = Segment(identity, self._folder.path_of(identity), held.size_bytes, first=held.first)
        segment.last, segment.end = held.last, held.end
        return segment

    def _tell(self) -> None:
        self._counts.damaged += self._damages.missing
        self._damages.missing = 0
        tell(self._receiver, Did(self.published, self._counts.taken()))

    async def _tell_on(self) -> None:
        """Tell what happens while nothing is published: that it fails, and why."""
        while True:
            await asyncio.sleep(_TELL_EVERY_S)
            if self._counts.publish_failures:
                self._tell()
