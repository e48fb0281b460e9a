"""The journal as the receiver uses it, with its threads, on a real disk that can be told to fail."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from receiver.journal import (
    Disk,
    Journal,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalLimits,
    JournalLocked,
    JournalUnavailable,
)
from receiver.journal.disk import Space
from receiver.journal.frame import Entry
from receiver.journal.store import Store
from tests.unit.journal_disks import FaultyDisk

SMALL = JournalLimits(segment_bytes=64 * 1024, quota_bytes=512 * 1024, disk_share=1)


@asynccontextmanager
async def journal(folder: Path, limits: JournalLimits = SMALL, disk: Disk | None = None) -> AsyncIterator[Journal]:
    opened = Journal.open(folder, limits, disk)
    try:
        yield opened
    finally:
        await opened.close()


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


async def outcome(appending: Awaitable[int]) -> type[JournalError] | int:
    try:
        return await appending
    except JournalError as error:
        return type(error)


def segments_in(folder: Path) -> list[Path]:
    return list(folder.glob("*.segment"))


async def fill(opened: Journal, body: bytes = bytes(4000)) -> int:
    """Append until it is full; return how many were taken."""
    taken = 0
    while await outcome(opened.append("demo", body, 1)) is not JournalFull:
        taken += 1
    return taken


async def test_what_was_appended_is_read_back_in_order_also_by_the_next_process(tmp_path: Path) -> None:
    bodies = [os.urandom(n % 3000) for n in range(300)]
    async with journal(tmp_path) as opened:
        sequences = await asyncio.gather(*(opened.append("demo", body, n) for n, body in enumerate(bodies)))
        assert sequences == list(range(1, 301))
        assert opened.last == opened.waiting == 300
        opened.mark_published(100)
        assert opened.waiting == 200
    async with journal(tmp_path) as opened:
        assert (opened.published, opened.last) == (100, 300)
        read = []
        while callbacks := opened.read(opened.published + len(read), 70, 100_000):
            read += callbacks
        assert [(c.sequence, c.received_ms, c.merchant, c.body) for c in read] == [
            (n + 1, n, "demo", body) for n, body in enumerate(bodies) if n >= 100
        ]
        assert await opened.append("demo", b"", 0) == 301


async def test_all_that_wait_are_one_group_with_one_write_and_one_fdatasync(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with journal(tmp_path, disk=disk) as opened:
        await opened.append("demo", b"first", 1)
        disk.calls.clear()
        disk.gate.clear()
        held = asyncio.ensure_future(opened.append("demo", b"held", 1))
        await until(lambda: "pwrite" in disk.calls)
        behind = [asyncio.ensure_future(opened.append("demo", b"behind", 1)) for _ in range(50)]
        await asyncio.sleep(0)
        disk.gate.set()
        assert await asyncio.gather(held, *behind) == list(range(2, 53))
        writes = [call for call in disk.calls if call in {"pwrite", "fdatasync"}]
        assert writes == ["pwrite", "fdatasync", "pwrite", "fdatasync"]


async def test_nobody_is_told_before_the_bytes_are_on_disk(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with journal(tmp_path, disk=disk) as opened:
        disk.gate.clear()
        appending = asyncio.ensure_future(opened.append("demo", b"body", 1))
        await until(lambda: "pwrite" in disk.calls)
        await asyncio.sleep(0.05)
        assert not appending.done()
        assert (opened.last, opened.read(0, 10, 1000)) == (0, []), "nor is it published before"
        disk.gate.set()
        assert await appending == 1
        assert opened.read(0, 10, 1000)[0].body == b"body"


@pytest.mark.parametrize("call", ["fdatasync", "pwrite"])
async def test_an_io_error_is_fatal_for_all_that_wait_and_all_that_come(tmp_path: Path, call: str) -> None:
    disk = FaultyDisk()
    async with journal(tmp_path, disk=disk) as opened:
        await opened.append("demo", b"durable", 1)
        disk.errors[call] = errno.EIO
        waiting = [outcome(opened.append("demo", b"body", 1)) for _ in range(20)]
        assert set(await asyncio.gather(*waiting)) == {JournalFailed}
        async with asyncio.timeout(60):
            await opened.failed.wait()
        disk.errors.clear()  # a second fsync may lie: nothing more may be written
        assert await outcome(opened.append("demo", b"body", 1)) is JournalFailed
        assert opened.last == 1
    assert max(path.stat().st_size for path in segments_in(tmp_path)) == SMALL.segment_bytes, "nor may it be cut"
    async with journal(tmp_path) as opened:
        assert opened.read(0, 1, 1000)[0].body == b"durable"
        assert await opened.append("demo", b"after", 1) == opened.last


async def test_a_write_that_is_taken_in_part_is_an_io_error(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with journal(tmp_path, disk=disk) as opened:
        disk.most_bytes_a_write = 100
        assert await outcome(opened.append("demo", bytes(1000), 1)) is JournalFailed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_bug_that_ends_the_writer_leaves_nobody_waiting(tmp_path: Path) -> None:
    limits = JournalLimits(commit_budget_s=60, quota_bytes=1 << 24, segment_bytes=1 << 20, disk_share=1)
    async with journal(tmp_path, limits) as opened, asyncio.timeout(60):
        assert await outcome(opened.append("demo", b"body", 2**70)) is JournalFailed
        await opened.failed.wait()


async def test_an_io_error_of_the_checkpoint_or_the_keeper_is_fatal_too(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with journal(tmp_path / "a", disk=disk) as opened:
        await opened.append("demo", b"body", 1)
        disk.errors["fdatasync"] = errno.EIO
        with pytest.raises(JournalFailed):
            opened.mark_published(1)
        assert opened.published == 0
        async with asyncio.timeout(60):
            await opened.failed.wait()
    disk = FaultyDisk()
    async with journal(tmp_path / "b", disk=disk) as opened:
        disk.errors["allocate"] = errno.EIO
        await opened.append("demo", b"body", 1)
        async with asyncio.timeout(60):
            await opened.failed.wait()


async def test_an_io_error_before_the_first_callback_ends_the_process_too(tmp_path: Path) -> None:
    disk = FaultyDisk()
    disk.errors["allocate"] = errno.ENOSPC
    async with journal(tmp_path / "a", disk=disk) as opened, asyncio.timeout(60):
        disk.errors["allocate"] = errno.EIO
        await opened.failed.wait()
    disk.errors["allocate"] = errno.ENOSPC
    opened = await asyncio.to_thread(Journal.open, tmp_path / "b", SMALL, disk)
    disk.errors["allocate"] = errno.EIO
    await until(lambda: opened._reception.is_broken)
    waiting = asyncio.ensure_future(opened.wait(0))  # as the publisher does, first of all
    async with asyncio.timeout(60):
        await opened.failed.wait()
    waiting.cancel()
    await opened.close()


async def test_a_slow_disk_makes_bigger_groups_then_turns_away_past_the_budget(tmp_path: Path) -> None:
    disk = FaultyDisk()
    limits = JournalLimits(commit_budget_s=0.2, quota_bytes=1 << 24, segment_bytes=1 << 20, disk_share=1)
    async with journal(tmp_path, limits, disk) as opened:
        disk.gate.clear()
        started = time.monotonic()
        appending = [asyncio.ensure_future(outcome(opened.append("demo", bytes([n]), 1))) for n in range(30)]
        assert set(await asyncio.gather(*appending)) == {JournalUnavailable}
        assert time.monotonic() - started > 0.15
        disk.gate.set()
        assert await opened.append("demo", b"after", 1) == opened.last
        bodies = [callback.body for callback in opened.read(0, 100, 1000)]
        assert bodies[-1] == b"after"
        assert set(bodies[:-1]) <= {bytes([n]) for n in range(30)}, "they may have landed all the same"


async def test_what_waits_in_memory_is_bounded(tmp_path: Path) -> None:
    disk = FaultyDisk()
    limits = JournalLimits(waiting_bytes=10_000, quota_bytes=1 << 24, segment_bytes=1 << 20, disk_share=1)
    async with journal(tmp_path, limits, disk) as opened:
        disk.gate.clear()
        appending = [asyncio.ensure_future(outcome(opened.append("demo", bytes(1000), 1))) for _ in range(15)]
        await until(lambda: sum(a.done() for a in appending) == 5)
        disk.gate.set()
        outcomes = await asyncio.gather(*appending)
        assert outcomes == [*range(1, 11), *[JournalUnavailable] * 5]
        assert await asyncio.gather(*(opened.append("demo", bytes(1000), 1) for _ in range(10))) == list(range(11, 21))


async def test_a_full_quota_refuses_and_mends_itself_when_published(tmp_path: Path) -> None:
    async with journal(tmp_path) as opened:
        taken = await fill(opened)
        assert taken == opened.last > 50
        assert opened.full
        assert opened.bytes_used <= SMALL.quota_bytes * SMALL.quota_share
        opened.mark_published(opened.last)
        await until(lambda: not opened.full)
        assert await opened.append("demo", b"again", 1) == taken + 1


async def test_insurance_never_causes_a_refusal(tmp_path: Path) -> None:
    async with journal(tmp_path) as opened:
        for _ in range(600):  # 2.4 MB through a quota of 0.5 MB, within the 15 minutes
            opened.mark_published(await opened.append("demo", bytes(4000), 1))
        assert opened.bytes_used <= SMALL.quota_bytes * SMALL.quota_share
        assert len(segments_in(tmp_path)) > 3, "kept while there is room"


async def test_a_full_disk_refuses_and_mends_itself_when_room_is_freed(tmp_path: Path) -> None:
    disk = FaultyDisk()
    disk.errors["allocate"] = errno.ENOSPC
    async with journal(tmp_path, disk=disk) as opened:
        assert opened.full
        assert await outcome(opened.append("demo", b"body", 1)) is JournalFull
        disk.errors.clear()
        await until(lambda: not opened.full)
        await opened.append("demo", b"body", 1)
        await until(lambda: opened.bytes_used > SMALL.segment_bytes)  # the next one is prepared
        disk.errors["allocate"] = errno.ENOSPC
        assert await fill(opened) > 20, "what is allocated can be used"
        assert set(disk.calls) >= {"pwrite", "fdatasync"}
        assert not opened.failed.is_set(), "no group has met the full disk in its middle"
        disk.errors.clear()
        await until(lambda: not opened.full)
        last = opened.last
        assert await opened.append("demo", b"body", 1) == last + 1


async def test_the_share_of_the_disk_is_respected(tmp_path: Path) -> None:
    class HalfFull(Disk):
        def space(self, folder: Path) -> Space:  # noqa: ARG002
            return Space(total_bytes=1 << 40, free_bytes=1 << 39)

    for share, expected in ((0.49, JournalFull), (0.51, 1)):
        limits = JournalLimits(segment_bytes=64 * 1024, disk_share=share)
        async with journal(tmp_path / f"{share}", limits, HalfFull()) as opened:
            assert await outcome(opened.append("demo", b"body", 1)) is expected or opened.last == expected


async def test_a_small_quota_makes_small_segments_and_a_big_callback_a_big_one(tmp_path: Path) -> None:
    async with journal(tmp_path, JournalLimits(quota_bytes=4_000_000, disk_share=1)) as opened:
        assert opened.bytes_used < 1_000_000
        await opened.append("demo", bytes(1_000_000), 1)
        await opened.append("demo", b"small", 1)
        assert [len(callback.body) for callback in opened.read(0, 10, 1 << 30)] == [1_000_000, 5]


async def test_only_one_process_has_a_journal(tmp_path: Path) -> None:
    async with journal(tmp_path):
        with pytest.raises(JournalLocked):
            Journal.open(tmp_path, SMALL)
    async with journal(tmp_path):
        pass


async def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalFailed):
        Journal.open(tmp_path / "file" / "journal", SMALL)


async def test_closing_commits_what_waits_and_refuses_what_comes(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with journal(tmp_path, disk=disk) as opened:
        disk.gate.clear()
        appending = [asyncio.ensure_future(opened.append("demo", b"first", 1))]
        await until(lambda: "pwrite" in disk.calls)
        appending += [asyncio.ensure_future(opened.append("demo", b"body", 1)) for _ in range(99)]
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(opened.close())
        await asyncio.sleep(0)
        with pytest.raises(JournalUnavailable):
            opened.append_nowait("demo", b"body", 1, lambda _outcome: None)
        disk.gate.set()
        await closing
        assert await asyncio.gather(*appending) == list(range(1, 101))
    assert sum(path.stat().st_size for path in segments_in(tmp_path)) < 10_000, "nothing preallocated is left behind"


async def test_one_done_that_raises_does_not_keep_the_others_from_being_told(tmp_path: Path) -> None:
    told: list[int | JournalError] = []
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))

    def bad(_outcome: int | JournalError) -> None:
        raise ZeroDivisionError

    async with journal(tmp_path) as opened:
        for done in (told.append, bad, told.append, bad, told.append):
            opened.append_nowait("demo", b"body", 1, done)
        await until(lambda: len(told) == 3)
        assert told == [1, 3, 5]
        assert len(raised) == 2
        assert await opened.append("demo", b"body", 1) == 6


async def test_a_sender_that_has_gone_does_no_harm(tmp_path: Path) -> None:
    async with journal(tmp_path) as opened:
        appending = asyncio.ensure_future(opened.append("demo", b"body", 1))
        await asyncio.sleep(0)
        appending.cancel()
        assert await opened.append("demo", b"body", 1) == 2


async def test_wait_returns_when_something_is_durable(tmp_path: Path) -> None:
    async with journal(tmp_path) as opened, asyncio.timeout(60):
        waiting = [asyncio.ensure_future(opened.wait(0)), asyncio.ensure_future(opened.wait(0))]
        await asyncio.sleep(0)
        assert not any(wait.done() for wait in waiting)
        await opened.append("demo", b"body", 1)
        await asyncio.gather(*waiting)
        late = asyncio.ensure_future(opened.wait(1))
        await asyncio.sleep(0.01)
        assert not late.done()
        await opened.append("demo", b"body", 1)
        await late


async def test_nothing_that_is_not_durable_can_be_marked(tmp_path: Path) -> None:
    async with journal(tmp_path) as opened:
        await opened.append("demo", b"body", 1)
        with pytest.raises(ValueError, match="cannot have been published"):
            opened.mark_published(2)
        opened.mark_published(1)
        opened.mark_published(0)
        assert opened.published == 1


def test_closed_segments_go_when_all_is_published_and_the_insurance_is_over(tmp_path: Path) -> None:
    now = 0.0
    store = Store(tmp_path, SMALL, Disk(), lambda: now)

    def segments() -> int:
        return len(segments_in(tmp_path)) - 1  # one is prepared

    store.commit([Entry(1, b"demo", b"body")])
    store.tidy()
    now = 301
    store.commit([Entry(1, b"demo", b"body")])
    store.tidy()
    assert segments() == 2
    now = 5_000
    store.tidy()
    assert segments() == 2, "not published"
    store.mark_published(1)
    now += 899
    store.tidy()
    assert segments() == 2, "insured"
    now += 2
    store.tidy()
    assert segments() == 1, "gone; the written one stays"
    store.mark_published(2)
    store.roll_aged()
    now += 901
    store.tidy()
    assert segments() == 0
    store.close()
    again = Store(tmp_path, SMALL, Disk())
    assert again.last == 2, "sequences go on, although nothing is left"
    again.commit([Entry(1, b"demo", b"body")])
    assert again._shelf.listed()[0].identity.number > 3, "and so do numbers"


def test_the_insurance_of_a_segment_begins_when_its_last_callback_is_published(tmp_path: Path) -> None:
    now = 0.0
    store = Store(tmp_path, SMALL, Disk(), lambda: now)
    store.commit([Entry(1, b"demo", b"body")])
    store.mark_published(1)
    store.commit([Entry(1, b"demo", b"body")])
    now = 301
    store.roll_aged()
    now = 800
    store.mark_published(2)
    now = 1699
    store.tidy()
    assert len(store._shelf.listed()) == 1
    now = 1701
    store.tidy()
    assert store._shelf.listed() == []


def test_the_segment_being_written_is_never_removed_to_make_room(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = Store(tmp_path, SMALL, disk)
    store.commit([Entry(1, b"demo", b"body")])
    store.mark_published(1)
    disk.errors["allocate"] = errno.ENOSPC
    store.tidy()
    store.commit([Entry(1, b"demo", b"behind")])
    store._folder.unlock()
    assert Store(tmp_path, SMALL, Disk()).read(1, 1, 1000)[0].body == b"behind"


def test_a_checkpoint_that_a_full_disk_refuses_is_held_in_memory(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = Store(tmp_path, SMALL, disk)
    store.commit([Entry(1, b"demo", b"body")])
    disk.errors["pwrite"] = errno.ENOSPC
    store.mark_published(1)
    assert store.published == 1


def test_starting_takes_as_long_with_a_large_backlog(tmp_path: Path) -> None:
    """Only one segment is scanned: of all others the first frame is read."""

    class CountingDisk(FaultyDisk):
        bytes_read = 0

        def pread(self, fd: int, size: int, offset: int) -> bytes:  # type: ignore[override]
            content = super().pread(fd, size, offset)
            self.bytes_read += len(content)
            return content

    limits = JournalLimits(segment_bytes=1 << 20, quota_bytes=1 << 30, disk_share=1)
    store = Store(tmp_path, limits, Disk())
    for _ in range(640):
        store.commit([Entry(1, b"demo", bytes(1000))] * 32)
    store.close()
    disk = CountingDisk()
    store = Store(tmp_path, limits, disk)
    assert store.last == 640 * 32
    assert disk.bytes_read < store.bytes_used / 4
