"""Finding out at the start what is durable.

Only the last segment that holds anything is scanned: a start takes as long with a million callbacks waiting as with
none. Of the others the first frame is read; the rest is checked when it is published.
"""

import os
from dataclasses import dataclass

import structlog

from receiver.journal import checkpoint
from receiver.journal.damage import DamageFile
from receiver.journal.folder import Folder
from receiver.journal.frame import SegmentId
from receiver.journal.reader import SegmentReader
from receiver.journal.segment import Segment
from receiver.journal.walk import Walk

log = structlog.get_logger()

_WRITE = os.O_RDWR | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Recovered:
    """Segments that all hold something, two sequences, and the greatest segment number ever used."""

    segments: list[Segment]
    published: int
    last: int
    number: int


def recover(folder: Folder, damages: DamageFile) -> Recovered:
    """Mend the folder and return what it holds. May be cut short anywhere and run again. Raises OSError."""
    folder.remove_unfinished()
    found = folder.segments()
    mark = checkpoint.load(folder)
    if mark is None and folder.exists(checkpoint.NAME):
        log.warning("journal_checkpoint_damaged", consequence="what is still here is published again")
    segments = _Mending(folder, damages).run(found)
    floor = segments[0].first or 1 if segments else 1
    published = max(mark.published if mark else 0, floor - 1)
    last = max(segments[-1].last if segments else 0, published)
    number = max(found[-1].number if found else 0, mark.segment if mark else 0)
    return Recovered(segments, published, last, number)


class _Mending:
    """Goes from the newest segment to the oldest."""

    def __init__(self, folder: Folder, damages: DamageFile) -> None:
        self._folder = folder
        self._damages = damages
        self._torn_seen = False  # one frame at most was being written

    def run(self, found: list[SegmentId]) -> list[Segment]:
        segments: list[Segment] = []
        for identity in reversed(found):
            segment = self._open(identity)
            reader = SegmentReader(self._folder.disk, segment.path, identity, strict=True)
            try:
                mended = self._peek(reader, segment, segments[-1]) if segments else self._scan(reader, segment)
            finally:
                reader.close()
            if mended:
                segments.append(segment)
        return segments[::-1]

    def _open(self, identity: SegmentId) -> Segment:
        path = self._folder.path_of(identity)
        size = self._folder.disk.size(path)
        return Segment(identity, path, size, end=size)

    def _peek(self, reader: SegmentReader, segment: Segment, newer: Segment) -> bool:
        frame = reader.next_frame(0, segment.end)  # what lies before it is reported when it is published
        if frame is None:
            self._discard(reader, segment)
            return False
        segment.first = frame.header.sequence
        segment.last = (newer.first or 0) - 1
        return True

    def _scan(self, reader: SegmentReader, segment: Segment) -> bool:
        walk = Walk(reader, self._damages)
        while frame := walk.next(segment.end):
            if segment.first is None:
                segment.first = frame.header.sequence
            segment.last = frame.header.last
        if segment.first is None:
            self._discard(reader, segment)
            return False
        self._settle_tail(walk, segment)
        return True

    def _settle_tail(self, walk: Walk, segment: Segment) -> None:
        tail = walk.offset
        if self._cut_allowed(walk, segment.end) or walk.damaged_tail(segment.end) is None:
            self._cut(segment, tail)

    def _cut_allowed(self, walk: Walk, end: int) -> bool:
        """Say yes to one torn frame in the whole journal, and no to bytes that were once acknowledged."""
        if self._torn_seen or walk.tail_is_blank(end) or not walk.tail_is_torn(end):
            return False
        self._torn_seen = True
        log.info("journal_torn_tail_cut", segment=walk.reader.segment.number, offset=walk.offset)
        return True

    def _cut(self, segment: Segment, end: int) -> None:
        """Durably: a torn frame must not come back."""
        fd = self._folder.disk.open(segment.path, _WRITE)
        try:
            self._folder.disk.truncate(fd, end)
            self._folder.disk.fsync(fd)
        finally:
            self._folder.disk.close(fd)
        segment.end = segment.size_bytes = end

    def _discard(self, reader: SegmentReader, segment: Segment) -> None:
        """Remove a segment without one good frame, once its damaged bytes are kept elsewhere."""
        walk = Walk(reader, self._damages)
        if not self._cut_allowed(walk, segment.end):
            damage = walk.damaged_tail(segment.end)
            if damage and not self._damages.kept(damage):
                return
        self._folder.remove(segment.path)
