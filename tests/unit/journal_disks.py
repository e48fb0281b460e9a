"""Worse disks than the real one, for the journal's tests."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from receiver.journal.disk import Disk, Space

_PIECE_BYTES = 64  # smaller than any real sector: tears more than a real disk does


class PowerCut(BaseException):
    """Not an Exception: nothing in the journal may catch it, as nothing can."""


@dataclass
class _Inode:
    durable: bytes = b""
    now: bytearray = field(default_factory=bytearray)
    changes: list[Callable[[bytearray], None]] = field(default_factory=list)  # since the last fsync

    def change(self, *changes: Callable[[bytearray], None]) -> None:
        for change in changes:
            change(self.now)
        self.changes += changes

    def sync(self) -> None:
        self.durable = bytes(self.now)
        self.changes.clear()

    def crash(self, random: Random) -> None:
        self.now = bytearray(self.durable)
        for change in self.changes:
            if random.random() < 0.5:
                change(self.now)
        self.sync()


def _write(offset: int, piece: bytes) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        content.extend(bytes(max(0, offset + len(piece) - len(content))))
        content[offset : offset + len(piece)] = piece

    return change


def _resize(size: int) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        del content[size:]
        content.extend(bytes(size - len(content)))

    return change


_NameChange = Callable[[dict[Path, _Inode]], object]


def _naming(path: Path, inode: _Inode) -> _NameChange:
    def change(names: dict[Path, _Inode]) -> None:
        names[path] = inode

    return change


class ForgetfulDisk(Disk):
    """In memory. At a power cut, of every write, size, name that was not synced, a random part is forgotten.

    With `fuse` set to n, the power goes at the n-th change from now: before or after it, at random.
    """

    def __init__(self, random: Random, size_bytes: int = 1 << 30) -> None:
        self.random = random
        self.size_bytes = size_bytes
        self.fuse: int | None = None
        self._off = False
        self._names: dict[Path, _Inode] = {}
        self._durable_names: dict[Path, _Inode] = {}
        self._name_changes: list[_NameChange] = []
        self._files: dict[int, _Inode] = {}
        self._locked: set[int] = set()
        self._next_fd = 3

    def crash(self) -> None:
        """Cut the power, and switch it on again."""
        for change in self._name_changes:
            if self.random.random() < 0.5:
                change(self._durable_names)
        self._name_changes.clear()
        self._names = dict(self._durable_names)
        for inode in {id(inode): inode for inode in self._names.values()}.values():
            inode.crash(self.random)
        self._files.clear()
        self._locked.clear()
        self._off, self.fuse = False, None

    def contents(self) -> dict[Path, bytes]:
        return {path: bytes(inode.now) for path, inode in self._names.items()}

    def load(self, contents: dict[Path, bytes]) -> None:
        self._names = {path: _Inode(content, bytearray(content)) for path, content in contents.items()}
        self._durable_names = dict(self._names)

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:  # type: ignore[override]  # noqa: ARG002
        if path not in self._names:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(path)
            self._rename(_naming(path, _Inode()))
        elif flags & os.O_EXCL:
            raise FileExistsError(path)
        if flags & os.O_TRUNC:
            self._change(lambda: self._names[path].change(_resize(0)))
        self._next_fd += 1
        self._files[self._next_fd] = self._names[path]
        return self._next_fd

    def close(self, fd: int) -> None:  # type: ignore[override]
        if not self._off:
            inode = self._files.pop(fd)
            self._locked.discard(id(inode))

    def pread(self, fd: int, size: int, offset: int) -> bytes:  # type: ignore[override]
        return bytes(self._files[fd].now[offset : offset + size])

    def pwrite(self, fd: int, content: bytes, offset: int) -> int:  # type: ignore[override]
        pieces, at = [], 0
        while at < len(content):
            size = _PIECE_BYTES - (offset + at) % _PIECE_BYTES
            pieces.append(_write(offset + at, bytes(content[at : at + size])))
            at += size
        self._change(lambda: self._files[fd].change(*pieces))
        return len(content)

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        inode = self._files[fd]
        self._change(inode.sync)

    fsync = fdatasync  # type: ignore[assignment]

    def truncate(self, fd: int, size: int) -> None:  # type: ignore[override]
        self._change(lambda: self._files[fd].change(_resize(size)))

    def allocate(self, fd: int, offset: int, size: int) -> None:  # type: ignore[override]
        if self.space(Path()).free_bytes < size:
            raise OSError(errno.ENOSPC, "full")
        self.truncate(fd, offset + size)

    def rename(self, source: Path, target: Path) -> None:  # type: ignore[override]
        inode = self._names[source]

        def change(names: dict[Path, _Inode]) -> None:
            names.pop(source, None)
            names[target] = inode

        self._rename(change)

    def unlink(self, path: Path) -> None:  # type: ignore[override]
        if path not in self._names:
            raise FileNotFoundError(path)
        self._rename(lambda names: names.pop(path, None))

    def names(self, folder: Path) -> list[str]:  # type: ignore[override]
        return [path.name for path in self._names if path.parent == folder]

    def size(self, path: Path) -> int:
        return len(self._names[path].now)

    def make_folder(self, folder: Path) -> None:
        pass

    def sync_folder(self, folder: Path) -> None:  # noqa: ARG002
        def sync() -> None:
            self._durable_names = dict(self._names)
            self._name_changes.clear()

        self._change(sync)

    def lock(self, fd: int) -> None:
        if id(self._files[fd]) in self._locked:
            raise BlockingIOError
        self._locked.add(id(self._files[fd]))

    def space(self, folder: Path) -> Space:  # noqa: ARG002
        return Space(self.size_bytes, self.size_bytes - sum(len(inode.now) for inode in self._names.values()))

    def _rename(self, change: _NameChange) -> None:
        def both() -> None:
            change(self._names)
            self._name_changes.append(change)

        self._change(both)

    def _change(self, change: Callable[[], object]) -> None:
        if self._off:
            raise PowerCut
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                self._off = True
                if self.random.random() < 0.5:
                    change()
                raise PowerCut
        change()


class FaultyDisk(Disk):
    """The real one, with faults to be switched on: an errno for the calls named, or a gate that fdatasync waits at."""

    def __init__(self) -> None:
        self.errors: dict[str, int] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[str] = []
        self.most_bytes_a_write: int | None = None
        self.unreadable: set[int] = set()  # blocks of 4 KB, by number

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        assert self.gate.wait(120)
        self._call("fdatasync")
        os.fdatasync(fd)

    def pwrite(self, fd: int, content: bytes, offset: int) -> int:  # type: ignore[override]
        self._call("pwrite")
        return os.pwrite(fd, memoryview(content)[: self.most_bytes_a_write], offset)

    def allocate(self, fd: int, offset: int, size: int) -> None:  # type: ignore[override]
        self._call("allocate")
        os.posix_fallocate(fd, offset, size)

    def unlink(self, path: Path) -> None:  # type: ignore[override]
        self._call("unlink")
        path.unlink()

    def pread(self, fd: int, size: int, offset: int) -> bytes:  # type: ignore[override]
        if any(offset < (block + 1) * 4096 and offset + size > block * 4096 for block in self.unreadable):
            raise OSError(errno.EIO, "unreadable")
        return os.pread(fd, size, offset)

    def _call(self, name: str) -> None:
        if name in self.errors:
            raise OSError(self.errors[name], "as told by the test")
        self.calls.append(name)
