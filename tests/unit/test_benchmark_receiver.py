"""The benchmark's own instruments: what they say has to be true before a figure of theirs is."""

import asyncio
import json
import os
import sqlite3
from pathlib import Path

import pytest

from benchmarks.receiver import backlog, load, sections, steady
from benchmarks.receiver.load import body_of, server, with_record
from benchmarks.receiver.settle import unwritten_mb
from benchmarks.receiver.steady import post
from benchmarks.receiver.variants import twin
from receiver.journal import Journal, JournalLimits
from receiver.journal.frame import HEADER_BYTES

STALL_S = 0.3
RATE = 200
CPUS = os.sched_getaffinity(0)


@pytest.fixture(autouse=True)
def _any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark has a machine with cores 0 and 1 to itself; a test may have whatever there is."""
    monkeypatch.setattr(steady, "LOAD_CPUS", CPUS)
    monkeypatch.setattr(load, "READY_S", 120)


def test_bodies_have_the_size_asked_for_and_ids_of_their_own() -> None:
    for size in (500, 1_700, 50_000):
        assert len(body_of(size)) == size
    ids = {json.loads(with_record(body_of(500), number))["records"][0]["id"] for number in range(100)}
    assert len(ids) == 100


async def test_a_stalled_server_makes_every_request_late_that_was_due_meanwhile() -> None:
    answered = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        while head := await _head(reader):
            await reader.readexactly(int(head.rpartition(b"Content-Length: ")[2]))
            answered += 1
            if answered == 20:
                stalled_until[0] = asyncio.get_running_loop().time() + STALL_S
            await asyncio.sleep(max(0.0, stalled_until[0] - asyncio.get_running_loop().time()))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    stalled_until = [0.0]
    served = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with served:
        url = f"http://127.0.0.1:{served.sockets[0].getsockname()[1]}/callbacks/x"
        done = await asyncio.to_thread(post, url, body_of(500), RATE, 1.0, 2)  # two connections: most have to wait
    late = [took for _, took in done.samples if took > 100]
    assert (len(done.samples), done.failed) == (RATE, 0)
    assert len(late) >= RATE * (STALL_S - 0.1) * 0.8  # a closed loop would have seen two
    assert done.percentile_ms(0) < done.percentile_ms(99)
    assert done.percentile_ms(99) > 200


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


def test_the_twin_acknowledges_and_stores(tmp_path: Path) -> None:
    variant = twin(tmp_path / "f")
    with server(variant.command, variant.environment, variant.port, tmp_path / "log", CPUS):
        done = post(variant.url, body_of(1_700), RATE, 0.5)
    assert (len(done.samples), done.failed) == (100, 0), (tmp_path / "log").read_text()
    with sqlite3.connect(tmp_path / "f" / "journal.sqlite") as database:
        frames = [frame for (frame,) in database.execute("SELECT frame FROM callbacks")]
    database.close()
    assert sum(frame.count(b'"taskId"') for frame in frames) == 100
    assert all(len(frame) > HEADER_BYTES + 1_700 for frame in frames)


async def test_a_backlog_is_a_journal_and_its_clone_is_another(tmp_path: Path) -> None:
    await backlog.fill(tmp_path / "one", 2_500, body_of(500))
    backlog.clone(tmp_path / "one", tmp_path / "two")
    limits = JournalLimits()
    one, two = Journal.open(tmp_path / "one", limits), Journal.open(tmp_path / "two", limits)
    try:
        assert one.waiting == two.waiting == 2_500
        assert one.read(0, 10, 10**6) == two.read(0, 10, 10**6)
        one.mark_published(2_500)
        assert two.waiting == 2_500
    finally:
        await one.close()
        await two.close()


def test_a_section_takes_the_place_of_its_predecessor_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for heading, text in (("B", "old"), ("A", "first"), ("B", "new")):
        sections.write(heading, text, ["A", "B"], page)
    written = page.read_text()
    assert "old" not in written
    assert [line for line in written.splitlines() if line.startswith("## ")] == ["## A", "## B"]
    assert written.index("first") < written.index("## B") < written.index("new")


def test_what_the_kernel_has_still_to_write_is_what_waits_and_what_is_on_its_way(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text(
        "MemTotal: 999 kB\nDirty:  2048 kB\nWriteback: 1024 kB\nWritebackTmp: 4096 kB\nHugePages_Total: 0\n"
    )
    assert unwritten_mb(tmp_path / "meminfo") == 3.0
