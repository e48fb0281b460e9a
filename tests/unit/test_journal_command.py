"""`dial-results journal show|verify`, beside a running receiver's journal and on one that is left behind."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ops.journal import journal
from receiver.journal import Disk, Journal, JournalLimits, survey
from receiver.journal.frame import Entry
from receiver.journal.store import Store

FRAME_BYTES = 3096  # of the fixture's groups
LIMITS = JournalLimits(segment_bytes=16 * 1024, quota_bytes=1 << 20, disk_share=1)


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(journal, [str(arg) for arg in args])


def looked(command: str, folder: Path) -> tuple[dict[str, Any], int]:
    result = run(command, folder, "--json")
    return json.loads(result.stdout), result.exit_code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve groups of three callbacks in three segments, one group more than half of them published."""
    store = Store(tmp_path, LIMITS, Disk())
    for _ in range(12):
        store.commit([Entry(1, b"demo", b"a canary in the body" * 50)] * 3)
        store.tidy()
    store.mark_published(21)
    store.close()
    return tmp_path


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def damage(folder: Path, segment: int, offset: int) -> None:
    path = sorted(folder.glob("*.segment"))[segment]
    content = bytearray(path.read_bytes())
    content[offset] ^= 255
    path.write_bytes(content)


def test_a_sound_journal(folder: Path) -> None:
    before = snapshot(folder)
    for command in ("show", "verify"):
        found, code = looked(command, folder)
        assert code == 0
        assert (found["published"], found["last"], found["waiting"], found["sound"]) == (21, 36, 15, True)
        assert [(one["first"], one["last"]) for one in found["segments"]] == [(1, 15), (16, 30), (31, 36)]
    assert [one["callbacks"] for one in found["segments"]] == [15, 15, 6]
    assert snapshot(folder) == before, "nothing was touched"


@pytest.mark.parametrize("offset", [5, 100])
def test_verify_finds_damage_that_show_does_not_look_for(folder: Path, offset: int) -> None:
    damage(folder, 1, FRAME_BYTES + offset)
    assert looked("show", folder)[1] == 0
    before = snapshot(folder)
    found, code = looked("verify", folder)
    assert code == 1
    (one,) = [one for segment in found["segments"] for one in segment["damages"]]
    assert one["segment"] == found["segments"][1]["number"]
    assert (one["size_bytes"], one["missing"]) == (FRAME_BYTES, 3)
    assert "DAMAGED" in run("verify", folder).stdout
    assert snapshot(folder) == before


def test_a_cut_segment_is_found_by_the_sequences(folder: Path) -> None:
    path = min(folder.glob("*.segment"))
    with path.open("r+b") as file:
        file.truncate(3 * FRAME_BYTES)
    found, code = looked("verify", folder)
    assert code == 1
    assert (
        sum(one["missing"] for segment in found["segments"] for one in segment["damages"])
        == 15 - found["segments"][0]["callbacks"]
    )


def test_a_torn_tail_is_sound_and_two_are_not(folder: Path) -> None:
    path = sorted(folder.glob("*.segment"))[2]
    damage(folder, 2, path.stat().st_size - 100)
    found, code = looked("verify", folder)
    assert (code, found["segments"][2]["tail"], found["last"]) == (0, "torn", 33)
    damage(folder, 1, sorted(folder.glob("*.segment"))[1].stat().st_size - 100)
    found, code = looked("verify", folder)
    assert code == 1
    assert [one["size_bytes"] for one in found["segments"][1]["damages"]] == [FRAME_BYTES - 6, 0], "it ends in zeros"


def test_a_frame_that_is_being_written_is_looked_at_again(folder: Path) -> None:
    class BeingWritten(Disk):
        finished = False

        def pread(self, fd: int, size: int, offset: int) -> bytes:  # type: ignore[override]
            content = os.pread(fd, size, offset)
            if self.finished or size < FRAME_BYTES:
                return content
            self.finished = True
            return content[:100] + bytes(100) + content[200:]

    assert survey(folder, read_whole=True, disk=BeingWritten()).sound


def test_a_segment_that_has_just_gone_is_passed_over(folder: Path) -> None:
    class JustGone(Disk):
        def names(self, path: Path) -> list[str]:  # type: ignore[override]
            return [*os.listdir(path), "000000000000-00000000.segment"]  # noqa: PTH208  # names are what is wanted

    assert survey(folder, read_whole=True, disk=JustGone()).sound


def test_a_damaged_checkpoint_is_said(folder: Path) -> None:
    (folder / "checkpoint").write_bytes(b"DRC1")
    found, code = looked("verify", folder)
    assert (code, found["checkpoint"], found["published"]) == (1, "damaged", 0)


def test_what_is_no_journal_is_a_usage_error(tmp_path: Path) -> None:
    assert run("show", tmp_path).exit_code == 2
    assert run("show", tmp_path / "nowhere").exit_code == 2


def test_no_content_is_printed(folder: Path) -> None:
    assert (
        "canary"
        not in run("verify", folder).output + run("show", folder).output + run("verify", folder, "--json").output
    )


async def test_beside_a_receiver_that_writes_and_removes(tmp_path: Path) -> None:
    running = Journal.open(tmp_path, LIMITS)
    stop = False

    async def write() -> None:
        while not stop:
            last = await asyncio.gather(*(running.append("demo", bytes(700), 1) for _ in range(8)))
            await asyncio.to_thread(running.mark_published, max(1, last[-1] - 200))

    writing = asyncio.ensure_future(write())
    for _ in range(25):
        found, code = await asyncio.to_thread(looked, "verify", tmp_path)
        assert code == 0, found
    stop = True
    await writing
    await running.close()
    assert looked("verify", tmp_path)[0]["last"] == running.last
