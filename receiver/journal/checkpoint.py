"""How far the broker has acknowledged: a low-water mark in a small file of its own."""

import errno
import os
import struct
from typing import NamedTuple
from zlib import crc32

from receiver.journal.folder import Folder

NAME = "checkpoint"
_MAGIC = b"DRC1"
_CONTENT = struct.Struct("<4sQQ")
_CRC = struct.Struct("<I")


class Checkpoint(NamedTuple):
    """Losing it only publishes twice what the insurance still holds."""

    published: int  # every callback up to this sequence has reached the broker
    segment: int  # greatest segment number ever given out


def save(folder: Folder, checkpoint: Checkpoint) -> None:
    """Return when it is on disk. Raises OSError."""
    content = _CONTENT.pack(_MAGIC, *checkpoint)
    folder.replace(NAME, content + _CRC.pack(crc32(content)))


def load(folder: Folder) -> Checkpoint | None:
    """Return None when there is none, or none that can be read and trusted."""
    try:
        fd = folder.disk.open(folder.path / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return _decode(folder.disk.pread(fd, _CONTENT.size + _CRC.size + 1, 0))
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None
    finally:
        folder.disk.close(fd)


def _decode(content: bytes) -> Checkpoint | None:
    body, crc = content[: _CONTENT.size], content[_CONTENT.size :]
    if len(crc) != _CRC.size or _CRC.unpack(crc)[0] != crc32(body) or not body.startswith(_MAGIC):
        return None
    return Checkpoint(*_CONTENT.unpack(body)[1:])
