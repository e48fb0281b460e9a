"""Which segments there are: the one being written, the one prepared to follow it, those that wait or are insurance."""

import threading
from collections.abc import Callable

import structlog

from receiver.journal.disk import NO_ROOM
from receiver.journal.errors import JournalFull
from receiver.journal.folder import Folder
from receiver.journal.limits import JournalLimits
from receiver.journal.recovery import Recovered
from receiver.journal.room import Room
from receiver.journal.segment import Segment

log = structlog.get_logger()


class Shelf:
    """A lock guards what comes and goes; the list itself is replaced, never changed, so that readers need none."""

    def __init__(self, folder: Folder, limits: JournalLimits, recovered: Recovered, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._limits = limits
        self._room = Room(folder, limits)
        self._clock = clock
        self._lock = threading.Lock()
        self._segments = recovered.segments
        self._written: Segment | None = None
        self._prepared: Segment | None = None
        self._published = 0
        self._closed = False
        self.number = recovered.number
        self.full = False

    def listed(self) -> list[Segment]:
        """In order; the last one may be the one being written."""
        return self._segments

    @property
    def bytes_used(self) -> int:
        prepared = self._prepared
        return sum(segment.size_bytes for segment in self._segments) + (prepared.size_bytes if prepared else 0)

    @property
    def segment_bytes(self) -> int:
        """See Store."""
        return self._room.segment_bytes()

    @property
    def wants_segment(self) -> bool:
        return self._prepared is None

    def segment_for(self, frame_bytes: int) -> Segment:
        """Return the segment that takes the next frame. Raises JournalFull, OSError."""
        written = self._written
        if written and written.fits(frame_bytes) and self._age_left(written) > 0:
            return written
        with self._lock:
            self._roll()
            segment = self._take(frame_bytes)
            segment.opened_at = self._clock()
            self._segments = [*self._segments, segment]
            self._written = segment
            return segment

    def roll_aged(self) -> float | None:
        """See Store."""
        written = self._written
        if written is None or written.first is None:
            return None
        left = self._age_left(written)
        if left > 0:
            return left
        with self._lock:
            self._roll()
        return None

    def prepare(self) -> None:
        """Have a segment ready, so that neither rolling nor a full disk is met in the middle of a group."""
        with self._lock:
            if not (self._prepared or self._closed):
                self._prepared = self._next()

    def _next(self) -> Segment | None:
        try:
            segment = self._create(self._room.segment_bytes())
        except JournalFull:
            self._set_full(self._written is None)
            return None
        self._set_full(False)
        return segment

    def published(self, sequence: int) -> None:
        """From now on the insurance of the segments up to this sequence runs."""
        now = self._clock()
        self._published = sequence
        for segment in self._segments:
            if segment is self._written or segment.last > sequence:
                break
            if segment.published_at is None:
                segment.published_at = now

    def expire(self) -> float | None:
        """See Store.tidy."""
        with self._lock:
            while segment := self._oldest_published():
                left = self._insurance_left(segment)
                if left > 0:
                    return left
                self._remove(segment)
        return None

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._roll()
            self._drop_prepared()

    def abandon(self) -> None:
        """After an I/O error: touch no segment again, not even to cut it."""
        with self._lock:
            self._closed = True
            for segment in (self._written, self._prepared):
                if segment:
                    self._folder.disk.close(segment.fd)
            self._written = self._prepared = None

    def _age_left(self, segment: Segment) -> float:
        if segment.first is None:
            return self._limits.segment_age_s
        return segment.opened_at + self._limits.segment_age_s - self._clock()

    def _insurance_left(self, segment: Segment) -> float:
        if segment.published_at is None:  # it is being marked just now
            return self._limits.insurance_s
        return segment.published_at + self._limits.insurance_s - self._clock()

    def _roll(self) -> None:
        if self._written is None:
            return
        segment, self._written = self._written, None
        segment.close(self._folder.disk)
        if segment.first is None:
            self._remove(segment)
        elif segment.last <= self._published:
            segment.published_at = self._clock()

    def _take(self, frame_bytes: int) -> Segment:
        if self._prepared and not self._prepared.fits(frame_bytes):
            self._drop_prepared()
        if segment := self._prepared:
            self._prepared = None
            return segment
        try:
            return self._create(max(self._room.segment_bytes(), frame_bytes))
        except JournalFull:
            self._set_full(True)
            raise

    def _drop_prepared(self) -> None:
        if segment := self._prepared:
            self._prepared = None
            self._folder.disk.close(segment.fd)
            self._folder.remove(segment.path)

    def _create(self, size_bytes: int) -> Segment:
        """Raises JournalFull once not even the removal of all published segments makes the room."""
        while True:
            if self._room.holds(size_bytes, self.bytes_used):
                try:
                    segment = self._folder.create_segment(self.number + 1, size_bytes)
                except OSError as error:
                    if error.errno not in NO_ROOM:
                        raise
                else:
                    self.number += 1
                    return segment
            insured = self._oldest_published()
            if insured is None:
                raise JournalFull("no room for another segment")
            self._remove(insured)

    def _oldest_published(self) -> Segment | None:
        oldest = self._segments[0] if self._segments else None
        if oldest is None or oldest is self._written or oldest.last > self._published:
            return None
        return oldest

    def _remove(self, segment: Segment) -> None:
        self._segments = [other for other in self._segments if other is not segment]
        self._folder.remove(segment.path)

    def _set_full(self, full: bool) -> None:
        if full != self.full:
            self.full = full
            log.warning("journal_full" if full else "journal_has_room_again", bytes_used=self.bytes_used)
