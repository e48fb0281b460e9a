"""Walking over a segment from good frame to good frame, reporting the damage between them."""

from receiver.journal.damage import Damage, DamageReport
from receiver.journal.reader import Frame, SegmentReader


class Walk:
    """At `offset`; the next callback should be number `expected` (None: whatever comes)."""

    def __init__(self, reader: SegmentReader, report: DamageReport, expected: int | None = None) -> None:
        self.reader = reader
        self.offset = 0
        self.expected = expected
        self._report = report

    def next(self, end: int) -> Frame | None:
        """Return the next good frame before the end, and step over it. At None, `offset` is where the tail begins."""
        frame = self.reader.frame_at(self.offset, end) or self.reader.next_frame(self.offset, end)
        if frame is None:
            return None
        missing = max(0, frame.header.sequence - self.expected) if self.expected is not None else 0
        if frame.offset > self.offset or missing:
            self._tell(frame.offset, missing)
        self.offset = frame.end
        self.expected = frame.header.last + 1
        return frame

    def tail_is_torn(self, end: int) -> bool:
        """Tell a frame that was being written when the power went (one bad frame, then zeros) from damage."""
        header = self.reader.header_at(self.offset, end)
        if self.reader.next_header(self.offset + 1, end) is not None:
            return False
        frame_bytes = header.frame_bytes if header else end
        return self.reader.written_end(self.offset, end) <= self.offset + frame_bytes

    def tail_is_blank(self, end: int) -> bool:
        return self.reader.written_end(self.offset, end) == self.offset

    def damaged_tail(self, end: int) -> Damage | None:
        """Step to the end. Return (and report) the damage, or None if there was nothing but zeros."""
        written_end = self.reader.written_end(self.offset, end)
        damage = self._tell(written_end, 0) if written_end > self.offset else None
        self.offset = end
        return damage

    def _tell(self, end: int, missing: int) -> Damage:
        damage = Damage(self.reader.segment.number, self.offset, end - self.offset, missing)
        self._report(damage, self.reader)
        return damage
