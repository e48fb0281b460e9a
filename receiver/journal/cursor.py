"""Reading the journal on: over all segments, from one sequence to the next."""

from collections.abc import Callable

from receiver.journal.damage import DamageReport
from receiver.journal.disk import Disk
from receiver.journal.frame import JournaledCallback, unpack
from receiver.journal.reader import Frame, SegmentReader
from receiver.journal.segment import Segment
from receiver.journal.walk import Walk


class Cursor:
    """Remembers where it stands: reading on costs no search, going back scans one segment. One thread at a time."""

    def __init__(self, disk: Disk, segments: Callable[[], list[Segment]], report: DamageReport) -> None:
        self._disk = disk
        self._segments = segments
        self._report = report
        self._after = -1  # the last one handed out
        self._segment: Segment | None = None
        self._walk: Walk | None = None  # over that segment; None when its file has gone
        self._left: list[JournaledCallback] = []  # of the last frame, not handed out yet

    def read(self, after: int, max_callbacks: int, max_bytes: int) -> list[JournaledCallback]:
        """Return the next callbacks behind `after`: one at least if there is one, else within both bounds."""
        if after != self._after:
            self._seek(after)
        callbacks: list[JournaledCallback] = []
        room = max_bytes
        while len(callbacks) < max_callbacks and room > 0 and (self._left or self._fill()):
            taken, room = self._fitting(max_callbacks - len(callbacks), room, first=not callbacks)
            callbacks += self._left[:taken]
            del self._left[:taken]
        if callbacks:
            self._after = callbacks[-1].sequence
        return callbacks

    def close(self) -> None:
        if self._walk:
            self._walk.reader.close()
        self._after, self._segment, self._walk, self._left = -1, None, None, []

    def _fitting(self, max_callbacks: int, room: int, *, first: bool) -> tuple[int, int]:
        """Return how many of those left fit, and the room behind them: 0 once one did not fit."""
        taken = 0
        for callback in self._left[:max_callbacks]:
            size = len(callback.body)
            if size > room and not (first and taken == 0):
                return taken, 0
            room -= size
            taken += 1
        return taken, room

    def _seek(self, after: int) -> None:
        self.close()
        self._after = after
        held = [segment for segment in self._segments() if segment.first is not None]
        at_or_before = [segment for segment in held if (segment.first or 0) <= after + 1]
        if held:
            segment = at_or_before[-1] if at_or_before else held[0]
            self._enter(segment, expected=segment.first if at_or_before else None)

    def _enter(self, segment: Segment, expected: int | None) -> None:
        if self._walk:
            self._walk.reader.close()
        self._segment, self._walk = segment, None
        try:
            reader = SegmentReader(self._disk, segment.path, segment.identity)
        except FileNotFoundError:
            return  # published, and removed since the list was made
        self._walk = Walk(reader, self._report, expected)

    def _fill(self) -> bool:
        """Load the next good frame that holds something behind `after`; False at the end of what is durable."""
        while True:
            following = self._following()  # asked first: once there is one, this segment's end is final
            if frame := self._next_frame():
                self._left = [c for c in unpack(frame.header, frame.payload) if c.sequence > self._after]
                if self._left:
                    return True
            elif following is None:
                return False
            else:
                self._enter(following, self._walk.expected if self._walk else None)

    def _next_frame(self) -> Frame | None:
        if self._walk is None or self._segment is None:
            return None
        end = self._segment.end
        if self._walk.offset >= end:
            return None
        frame = self._walk.next(end)
        if frame is None:
            self._walk.damaged_tail(end)
        return frame

    def _following(self) -> Segment | None:
        """Return the segment behind this one, if it holds something."""
        number = self._segment.identity.number if self._segment else -1
        return next((s for s in self._segments() if s.identity.number > number and s.first is not None), None)
