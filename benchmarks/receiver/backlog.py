"""Journals that are full before the receiver starts, written through `receiver.journal` itself."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from receiver.journal import Journal, JournalLimits

from .load import with_record

_AT_ONCE = 10_000  # callbacks that wait for the disk together


async def fill(folder: Path, callbacks: int, body: bytes) -> None:
    """Write this many callbacks, each with a record id of its own, as those of the merchant `demo`."""
    journal = Journal.open(folder, JournalLimits(quota_bytes=10**11, waiting_bytes=10**9))
    room = asyncio.Semaphore(_AT_ONCE)
    now_ms = time.time_ns() // 1_000_000
    try:
        for number in range(callbacks):
            await room.acquire()
            journal.append_nowait("demo", with_record(body, number), now_ms, lambda _: room.release())
        for _ in range(_AT_ONCE):
            await room.acquire()
        assert journal.waiting == callbacks, f"{journal.waiting} of {callbacks} are in the journal"
    finally:
        await journal.close()


def clone(source: Path, target: Path) -> None:
    """Make the same journal again by hard links: a segment is removed one day, and never changed."""
    target.mkdir(parents=True)
    for file in source.iterdir():
        if file.name != "lock":
            os.link(file, target / file.name)
