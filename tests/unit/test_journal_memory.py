from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from receiver.journal import Disk, Journal, JournalError, JournalLimits, JournalUnavailable


class Hanging(Disk):
    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def fdatasync(self, fd: int) -> None:
        self.gate.wait(120)
        super().fdatasync(fd)


async def stored(journal: Journal, body: bytes) -> int:
    """Append it, however slow the disk may be meanwhile."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await journal.append("demo", body, 0)
            except JournalUnavailable:
                await asyncio.sleep(0)


async def test_a_disk_that_hangs_never_holds_more_bodies_than_the_bound(tmp_path: Path) -> None:
    disk = Hanging()
    disk.gate.set()
    limits = JournalLimits(segment_bytes=4 << 20, waiting_bytes=200_000, commit_budget_s=0.5)
    journal = Journal.open(tmp_path, limits, disk)
    try:
        await stored(journal, b"first")
        disk.gate.clear()
        told: list[int | JournalError] = []
        taken = refused = 0
        for _ in range(20):  # each wave is turned away for being late, and yet its bodies wait for the writer
            for _ in range(20):
                try:
                    journal.append_nowait("demo", b"x" * 10_000, 0, told.append)
                    taken += 1
                except JournalUnavailable:
                    refused += 1
            async with asyncio.timeout(60):
                while len(told) < taken:
                    await asyncio.sleep(0.01)
        assert {type(outcome) for outcome in told} == {JournalUnavailable}
        assert refused > 300
        assert journal._writer.queued_bytes <= 200_000 + 10_000
        disk.gate.set()
        async with asyncio.timeout(60):
            while journal._writer.queued_bytes:
                await asyncio.sleep(0.01)
        assert await stored(journal, b"again") > 1
    finally:
        disk.gate.set()
        await journal.close()
    with pytest.raises(JournalError):
        await journal.append("demo", b"closed", 0)
