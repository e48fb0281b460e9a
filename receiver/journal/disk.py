"""The few calls of the operating system that the journal makes, in one place, so that a test can give a worse disk."""

import errno
import fcntl
import os
from pathlib import Path
from typing import NamedTuple

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class Space(NamedTuple):
    """A file system's room in bytes, without what only root may use."""

    total_bytes: int
    free_bytes: int


class Disk:
    """The real one. Every method may raise OSError."""

    open = staticmethod(os.open)
    close = staticmethod(os.close)
    pread = staticmethod(os.pread)
    pwrite = staticmethod(os.pwrite)
    fdatasync = staticmethod(os.fdatasync)
    fsync = staticmethod(os.fsync)
    truncate = staticmethod(os.ftruncate)
    allocate = staticmethod(os.posix_fallocate)
    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)
    names = staticmethod(os.listdir)

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def make_folder(self, folder: Path) -> None:
        """Create the folder and what lies above it, durably."""
        if folder.is_dir():
            return
        self.make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        self.sync_folder(folder.parent)

    def sync_folder(self, folder: Path) -> None:
        """Return when names created, renamed and removed in the folder so far are on disk."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, fd: int) -> None:
        """Raise BlockingIOError when another process holds the lock; the kernel frees it when the process ends."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def space(self, folder: Path) -> Space:
        room = os.statvfs(folder)
        used = room.f_blocks - room.f_bfree
        return Space((used + room.f_bavail) * room.f_frsize, room.f_bavail * room.f_frsize)
