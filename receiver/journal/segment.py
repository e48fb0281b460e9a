"""One segment: a file of frames, preallocated with zeros, appended to and never rewritten."""

import errno
import re
from dataclasses import dataclass
from pathlib import Path

from receiver.journal.disk import Disk
from receiver.journal.frame import SegmentId

_NAME = re.compile(r"(\d{12})-([0-9a-f]{8})\.segment")


def segment_name(segment: SegmentId) -> str:
    """The seed stands in the name, where no flipped byte of the file can reach it."""
    return f"{segment.number:012d}-{segment.seed:08x}.segment"


def segment_of_name(name: str) -> SegmentId | None:
    match = _NAME.fullmatch(name)
    return SegmentId(int(match[1]), int(match[2], 16)) if match else None


@dataclass(slots=True)
class Segment:
    """What is known of one file. `end` is where its durable frames end; nothing behind it is ever read."""

    identity: SegmentId
    path: Path
    size_bytes: int  # as on disk, the preallocated rest included
    end: int = 0
    first: int | None = None  # sequence of its first callback; None while it holds none
    last: int = 0  # of its last one, where `first` is not None
    opened_at: float = 0.0  # monotonic seconds
    published_at: float | None = None  # likewise, when all of it had reached the broker
    fd: int = -1  # while it is written to

    def fits(self, frame_bytes: int) -> bool:
        return self.end + frame_bytes <= self.size_bytes

    def append(self, disk: Disk, frame: bytearray, first: int, last: int) -> None:
        """Return when the frame is on disk. Raises OSError: then nothing may be said about it, now or later."""
        if disk.pwrite(self.fd, frame, self.end) != len(frame):
            raise OSError(errno.EIO, "the disk took only a part of a frame")
        disk.fdatasync(self.fd)
        self.last = last
        self.end += len(frame)
        if self.first is None:
            self.first = first

    def close(self, disk: Disk) -> None:
        """Give back what was allocated and not used. It need not be durable: zeros behind the end mean nothing."""
        disk.truncate(self.fd, self.end)
        disk.close(self.fd)
        self.fd = -1
        self.size_bytes = self.end
