"""The receiver under faults (`make faults`): each prints its counts, and counts only if the faults really happened."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import subprocess
import time
from pathlib import Path

import aiohttp
import pytest

from .bursts import CONNECTIONS, Burst
from .receiver import Ledger, Receiver, callback, journaled_ids, load, send

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

KILLS = int(os.environ.get("FAULTS_KILLS", "200"))
RESTARTS = int(os.environ.get("FAULTS_RESTARTS", "100"))


def report(text: str) -> None:
    print(f"\n{text}", flush=True)  # the counts are the result


async def test_kill_9_under_load_loses_nothing_acknowledged(tmp_path: Path) -> None:
    receiver, ledger, chance = Receiver(tmp_path), Ledger(), random.Random(20261124)
    slowest_start_s = 0.0
    async with load(receiver.url, ledger, "kill"):
        for _ in range(KILLS):
            process = await asyncio.to_thread(receiver.start)
            slowest_start_s = max(slowest_start_s, await asyncio.to_thread(receiver.wait_ready, process))
            await asyncio.sleep(chance.uniform(0.0, 0.4))
            process.kill()
            await asyncio.to_thread(process.wait)
    found = await asyncio.to_thread(journaled_ids, receiver.journal)
    missing = ledger.acknowledged - found
    report(
        f"{KILLS} x kill -9: acknowledged {len(ledger.acknowledged)}, missing {len(missing)}, "
        f"stored beyond that {len(found - ledger.acknowledged)}, "
        f"slowest start {slowest_start_s:.2f} s, {ledger.outcomes}"
    )
    assert len(ledger.acknowledged) > KILLS
    assert not missing


def test_kill_9_right_behind_an_answer_finds_it_stored(tmp_path: Path) -> None:
    receiver, chance = Receiver(tmp_path), random.Random(20261124)
    acknowledged: set[str] = set()
    for number in range(KILLS):
        process = receiver.start()
        receiver.wait_ready(process)
        burst = Burst(receiver, f"behind-{number}", padding=chance.choice((1_500, 60_000)))
        burst.kill_behind(process.pid, answers=chance.randint(1, 2 * CONNECTIONS))
        process.wait()
        acknowledged |= burst.acknowledged
    found = journaled_ids(receiver.journal)
    missing = acknowledged - found
    report(
        f"{KILLS} x kill -9 right behind an answer, {CONNECTIONS} under way: acknowledged {len(acknowledged)}, "
        f"missing {len(missing)}, stored beyond that {len(found - acknowledged)}"
    )
    assert len(acknowledged) > KILLS
    assert found - acknowledged  # it was killed while some were under way
    assert not missing


async def test_restarts_under_load_reset_no_accepted_request(tmp_path: Path) -> None:
    receiver, ledger = Receiver(tmp_path), Ledger()
    slowest_exit_s = 0.0
    async with load(receiver.url, ledger, "restart", senders=48, rate=3_000):
        for _ in range(RESTARTS):
            process = await asyncio.to_thread(receiver.start)
            await asyncio.to_thread(receiver.wait_ready, process)
            await asyncio.sleep(0.2)
            stopping = time.monotonic()
            process.terminate()
            assert await asyncio.to_thread(process.wait, 15) == 0
            slowest_exit_s = max(slowest_exit_s, time.monotonic() - stopping)
    found = await asyncio.to_thread(journaled_ids, receiver.journal)
    resets = {name: count for name, count in ledger.outcomes.items() if name not in ("200", "refused")}
    report(
        f"{RESTARTS} restarts: acknowledged {len(ledger.acknowledged)}, missing {len(ledger.acknowledged - found)}, "
        f"resets {resets or 0}, slowest exit {slowest_exit_s:.2f} s"
    )
    assert len(ledger.acknowledged) > RESTARTS
    assert not ledger.acknowledged - found
    assert not resets
    assert slowest_exit_s < 10


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount") or "mount"
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("SKIPPED: a small tmpfs needs root")
    yield folder
    subprocess.run([shutil.which("umount") or "umount", "-l", str(folder)], check=True)


async def test_a_full_disk_refuses_and_recovers_without_a_restart(tmp_path: Path, small_disk: Path) -> None:
    receiver = Receiver(tmp_path, extra={"RECEIVER_JOURNAL_SEGMENT_BYTES": str(2 << 20)})
    receiver.journal = small_disk / "journal"
    ledger = Ledger()
    ballast = small_disk / "ballast"
    with receiver.running() as process:
        ballast.write_bytes(b"\1" * (12 << 20))
        async with load(receiver.url, ledger, "full", rate=600, padding=20_000):
            await _until(lambda: ledger.outcomes.get("503", 0) > 50, 60)
            ballast.unlink()
            freed, before = time.monotonic(), len(ledger.acknowledged)
            await _until(lambda: len(ledger.acknowledged) > before + 20, 30)
            recovered_s = time.monotonic() - freed
        assert process.poll() is None
    found = await asyncio.to_thread(journaled_ids, receiver.journal)
    missing = ledger.acknowledged - found
    report(
        f"disk full: {ledger.outcomes}, 200 without a row {len(missing)}, "
        f"recovered {recovered_s:.2f} s after space was freed"
    )
    assert not missing
    assert set(ledger.outcomes) == {"200", "503"}


async def test_a_failed_fsync_acknowledges_nothing_of_its_group(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("SKIPPED: the shim needs a C compiler")
    shim = tmp_path / "shim.so"
    source = Path(__file__).with_name("fdatasync_shim.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(shim), str(source), "-ldl"], check=True)
    ledger, failures = Ledger(), 0
    receiver = Receiver(tmp_path)
    async with load(receiver.url, ledger, "fsync", senders=16, rate=2_000):
        for fail_at in range(12, 32):
            receiver.extra = {"LD_PRELOAD": str(shim), "FAIL_AT": str(fail_at)}
            process = await asyncio.to_thread(receiver.start)
            await asyncio.to_thread(receiver.wait_ready, process)
            failures += await asyncio.to_thread(process.wait, 20) != 0
    found = await asyncio.to_thread(journaled_ids, receiver.journal)
    missing = ledger.acknowledged - found
    report(
        f"{failures} failed fsyncs: {ledger.outcomes}, 200 without a row {len(missing)}, the process ended each time"
    )
    assert failures == 20
    assert ledger.outcomes["503"] > 0
    assert not missing


async def test_every_200_is_preceded_by_a_finished_fdatasync(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("SKIPPED: needs strace")
    trace = tmp_path / "trace"
    calls = "trace=pwrite64,pwritev,fdatasync,write,writev,sendto,sendmsg"
    receiver = Receiver(tmp_path, prefix=(strace, "-f", "-o", str(trace), "-s", "24", "-e", calls))
    ledger = Ledger()
    size = len(callback("order-00-0000"))
    process = await asyncio.to_thread(receiver.start)
    try:
        await asyncio.to_thread(receiver.wait_ready, process)
        async with aiohttp.ClientSession() as session:
            for burst in range(150):
                await asyncio.gather(
                    *(send(session, receiver.url, f"order-{n:02}-{burst:04}", ledger) for n in range(32))
                )
    finally:
        subprocess.run(["/bin/sh", "-c", f"kill -TERM $(cat /proc/{process.pid}/task/*/children)"], check=False)
        await asyncio.to_thread(process.wait, 20)
    answers, worst = _check_order(trace, size)
    report(f"{answers} answers of 200 traced, {worst} of them before their bytes were synced")
    assert answers >= len(ledger.acknowledged) > 4_000
    assert worst == 0


def _check_order(trace: Path, body_bytes: int) -> tuple[int, int]:
    """Walk the trace: an answer may go out only while fewer callbacks were answered than were synced."""
    written, synced, answered, early = 0, 0, 0, 0
    unfinished: dict[str, int] = {}
    for line in trace.read_text(errors="replace").splitlines():
        thread, _, call = line.partition(" ")
        call = call.strip()
        if "pwrite" in call and (size := re.search(r"= (\d+)$", call)):
            written += int(size[1]) // body_bytes
        elif call.startswith("fdatasync"):
            unfinished[thread] = written
            if call.endswith("= 0"):
                synced = max(synced, unfinished.pop(thread))
        elif "fdatasync resumed" in call and call.endswith("= 0"):
            synced = max(synced, unfinished.pop(thread))
        elif "HTTP/1.1 200" in call and "resumed" not in call:
            answered += 1
            early += answered > synced
    return answered, early


async def _until(condition: object, limit_s: float) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)
