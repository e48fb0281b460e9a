"""Reading one segment: frames are checked as they are read, and found again behind bytes that are not frames."""

import errno
import os
from pathlib import Path
from typing import NamedTuple

from receiver.journal.disk import Disk
from receiver.journal.frame import (
    ALIGNMENT,
    HEADER_BYTES,
    MAGIC,
    Header,
    SegmentId,
    payload_is_good,
    read_header,
)

_WINDOW_BYTES = 1024 * 1024
_FIRST_WINDOW_BYTES = 64 * 1024  # a start reads the first frame of every segment, and no more of most
_BLOCK_BYTES = 4096


class Frame(NamedTuple):
    """A good frame. The payload is valid for as long as it is referred to."""

    offset: int
    end: int
    header: Header
    payload: memoryview


class SegmentReader:
    """Reads ahead in windows of up to 1 MB. `end` is where the caller wants reading to stop. One thread at a time."""

    def __init__(self, disk: Disk, path: Path, segment: SegmentId, *, strict: bool = False) -> None:
        """Raises OSError, FileNotFoundError above all: the segment may have gone.

        Strict: a block that the disk cannot read raises OSError (EIO). Otherwise its frames count as damaged.
        """
        self.segment = segment
        self._disk = disk
        self._strict = strict
        self._fd = disk.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._window = b""
        self._start = 0
        self._ahead_bytes = _FIRST_WINDOW_BYTES

    def close(self) -> None:
        self._disk.close(self._fd)

    def header_at(self, offset: int, end: int) -> Header | None:
        """Return the header if there is a good one, whatever its payload is worth."""
        at = self._load(offset, HEADER_BYTES, end)
        return read_header(self._window, at, self.segment)

    def frame_at(self, offset: int, end: int) -> Frame | None:
        """Return the frame if header and payload are good and lie before the end."""
        header = self.header_at(offset, end)
        if header is None:
            return None
        at = self._load(offset, header.frame_bytes, end)
        payload = memoryview(self._window)[at + HEADER_BYTES : at + header.frame_bytes]
        if not payload_is_good(header, payload, self.segment):
            return None
        return Frame(offset, offset + header.frame_bytes, header, payload)

    def next_frame(self, offset: int, end: int) -> Frame | None:
        """Return the first good frame at or behind the offset."""
        while (at := self.next_header(offset, end)) is not None:
            if frame := self.frame_at(at, end):
                return frame
            offset = at + ALIGNMENT
        return None

    def next_header(self, offset: int, end: int) -> int | None:
        """Return where the first good header at or behind the offset is."""
        while (at := self._next_magic(offset, end)) is not None:
            if at % ALIGNMENT == 0 and self.header_at(at, end):
                return at
            offset = at + 1
        return None

    def written_end(self, offset: int, end: int) -> int:
        """Return where the zeros begin that reach up to the end; the offset itself where there is nothing else."""
        last = offset
        for at in range(offset, end, _WINDOW_BYTES):
            if content := self._content(at, end).rstrip(b"\0"):
                last = at + len(content)
        return last

    def content(self, offset: int, end: int) -> bytes:
        """Return the bytes between, whatever they are."""
        return b"".join(self._content(at, end) for at in range(offset, end, _WINDOW_BYTES))

    def _content(self, offset: int, end: int) -> bytes:
        return self._read(offset, min(_WINDOW_BYTES, end - offset))

    def _next_magic(self, offset: int, end: int) -> int | None:
        while offset + len(MAGIC) <= end:
            at = self._load(offset, len(MAGIC), end)
            found = self._window.find(MAGIC, at)
            if found >= 0:
                return self._start + found
            if len(self._window) - at < len(MAGIC):
                return None  # the file is shorter than was said
            offset = self._start + len(self._window) - len(MAGIC) + 1
        return None

    def _load(self, offset: int, size: int, end: int) -> int:
        """See to it that the window holds these bytes, as far as there are any before the end; return where in it."""
        size = min(size, end - offset)
        at = offset - self._start
        if at < 0 or at + size > len(self._window):
            self._window = self._read(offset, min(max(size, self._ahead_bytes), end - offset))
            self._start = offset
            self._ahead_bytes = min(2 * self._ahead_bytes, _WINDOW_BYTES)
            at = 0
        return at

    def _read(self, offset: int, size: int) -> bytes:
        try:
            return self._disk.pread(self._fd, size, offset)
        except OSError as error:
            if error.errno != errno.EIO or self._strict:
                raise
            return self._read_around(offset, size)

    def _read_around(self, offset: int, size: int) -> bytes:
        """Put zeros in the place of unreadable blocks: their frames fail the check, and all others are still served."""
        parts = []
        for at in range(offset, offset + size, _BLOCK_BYTES):
            wanted = min(_BLOCK_BYTES, offset + size - at)
            try:
                parts.append(self._disk.pread(self._fd, wanted, at))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                parts.append(bytes(wanted))
        return b"".join(parts)
