"""The journal's folder: which segments are in it, and how files come and go durably."""

import os
import secrets
from pathlib import Path

from receiver.journal.disk import Disk
from receiver.journal.errors import JournalLocked
from receiver.journal.frame import SegmentId
from receiver.journal.segment import Segment, segment_name, segment_of_name

DAMAGED = ".damaged"
_UNFINISHED = ".tmp"
_CHUNK_BYTES = 1024 * 1024


class Folder:
    """Names in it change durably: each method that changes one returns when the folder is on disk."""

    def __init__(self, disk: Disk, path: Path) -> None:
        self.disk = disk
        self.path = path
        self._lock_fd = -1

    def lock(self) -> None:
        """Keep other processes out until this one ends, or `unlock`. Raises JournalLocked."""
        self.disk.make_folder(self.path)
        fd = self.disk.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self.disk.lock(fd)
        except BlockingIOError as error:
            self.disk.close(fd)
            raise JournalLocked(f"another process has the journal in {self.path}") from error
        self._lock_fd = fd

    def unlock(self) -> None:
        self.disk.close(self._lock_fd)
        self._lock_fd = -1

    def segments(self) -> list[SegmentId]:
        """In ascending order of their numbers."""
        return sorted(segment for name in self.disk.names(self.path) if (segment := segment_of_name(name)))

    def set_aside(self) -> dict[str, int]:
        """Return the files that hold damaged bytes, with their sizes."""
        names = [name for name in self.disk.names(self.path) if name.endswith(DAMAGED)]
        return {name: self.disk.size(self.path / name) for name in sorted(names)}

    def path_of(self, segment: SegmentId) -> Path:
        return self.path / segment_name(segment)

    def create_segment(self, number: int, size_bytes: int) -> Segment:
        """Return an open segment that reads as zeros, all of it allocated. Raises OSError, leaving nothing behind."""
        identity = SegmentId(number, secrets.randbits(32))
        path = self.path_of(identity)
        fd = self.disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self.disk.allocate(fd, 0, size_bytes)
            self.disk.fsync(fd)
        except OSError:
            self.disk.close(fd)
            self.remove(path)
            raise
        self.disk.sync_folder(self.path)
        return Segment(identity, path, size_bytes, fd=fd)

    def remove(self, path: Path) -> None:
        self.disk.unlink(path)
        self.disk.sync_folder(self.path)

    def remove_unfinished(self) -> None:
        """Remove what a crash left of files that `replace` had not finished."""
        for name in self.disk.names(self.path):
            if name.endswith(_UNFINISHED):
                self.remove(self.path / name)

    def exists(self, name: str) -> bool:
        return name in self.disk.names(self.path)

    def replace(self, name: str, content: bytes) -> None:
        """Let the file of this name hold these bytes: durably, and never a part of them. Raises OSError."""
        unfinished = self.path / (name + _UNFINISHED)
        fd = self.disk.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            written = 0
            while written < len(content):
                written += self.disk.pwrite(fd, content[written : written + _CHUNK_BYTES], written)
            self.disk.fdatasync(fd)
        finally:
            self.disk.close(fd)
        self.disk.rename(unfinished, self.path / name)
        self.disk.sync_folder(self.path)
