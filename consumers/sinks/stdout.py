"""The smallest sink, to copy from: each event is one JSON line of a file, once, and is shown on standard output."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from consumers.sink import SinkUnavailable
from schemas import wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from consumers.sink import Delivery
    from schemas.merchants import Merchant


class Settings(BaseSettings):
    """Read from `STDOUT_...`."""

    model_config = SettingsConfigDict(env_prefix="STDOUT_", frozen=True)

    path: Path = Field(Path("stdout.jsonl"), description="the file of events; the memory of what was shown")


class StdoutSink:
    """Knows by its file which events it has, and keeps their ids in memory: to look on, not for a year's traffic."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ids: set[str] = set()
        self._read_to = 0

    async def write(self, deliveries: Sequence[Delivery]) -> None:
        """Append what is not there yet; durable on return. Raises SinkUnavailable where the file cannot be written."""
        lines: dict[str, bytes] = {}
        for one in deliveries:  # of a repeat the first counts
            lines.setdefault(one.event.event_id, wire.encode(one.event).value + b"\n")
        try:
            await asyncio.to_thread(self._append, lines)
        except OSError as error:  # the disk is full, another writer holds the lock, nobody reads standard output
            raise SinkUnavailable(type(error).__name__) from error

    async def erase(self, merchant: str, record_id: str) -> str:
        """Blank the contact's lines; what was shown is gone already. Raises SinkUnavailable."""
        try:
            await asyncio.to_thread(self._blank, merchant, record_id)
        except OSError as error:
            raise SinkUnavailable(type(error).__name__) from error
        return "what was shown on standard output, wherever that went"

    def _blank(self, merchant: str, record_id: str) -> None:
        """Overwrite in place: other writers remember how far they have read."""
        with self._path.open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            at = 0
            for line in file.readlines():
                if line.strip() and _is_of(line, merchant, record_id):
                    file.seek(at)
                    file.write(b" " * (len(line) - 1))
                at += len(line)
            file.flush()
            os.fsync(file.fileno())

    def _append(self, lines: dict[str, bytes]) -> None:
        with self._path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # freed when the file is closed
            self._catch_up(file)
            new = b"".join(line for event_id, line in lines.items() if event_id not in self._ids)
            file.write(new)
            file.flush()
            os.fsync(file.fileno())
            self._ids.update(lines)
            self._read_to = file.tell()
        sys.stdout.buffer.write(new)
        sys.stdout.buffer.flush()

    def _catch_up(self, file: BinaryIO) -> None:
        """Read what other writers appended; cut off a line that a killed one left half written."""
        file.seek(self._read_to)
        whole = file.read().rpartition(b"\n")
        self._read_to += len(whole[0] + whole[1])
        file.truncate(self._read_to)
        self._ids.update(wire.decode(line).event_id for line in whole[0].splitlines() if line.strip())


@asynccontextmanager
async def connect(settings: Settings, merchants: Mapping[str, Merchant]) -> AsyncIterator[StdoutSink]:  # noqa: ARG001
    """Create the file if need be. Raises SinkUnavailable where that cannot be."""
    sink = StdoutSink(settings.path)
    await sink.write(())
    yield sink


async def event_ids(settings: Settings) -> list[str]:
    """Return the event id of every line."""
    lines = await asyncio.to_thread(settings.path.read_bytes)
    return [wire.decode(line).event_id for line in lines.splitlines() if line.strip()]


def _is_of(line: bytes, merchant: str, record_id: str) -> bool:
    event = wire.decode(line.rstrip(b"\n"))
    return (event.merchant, event.record_id) == (merchant, record_id)
