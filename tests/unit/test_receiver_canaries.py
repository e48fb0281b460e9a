"""Nothing that a sender says comes out in a log, an answer or a metric, at any level of logging that there is."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from . import canaries
from .test_receiver_process import Process, started


async def told(port: int, request: bytes) -> bytes:
    """Send, and return all that is answered until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(60):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def published(one: Process) -> None:
    """Return when Kafka has all that was stored: until then, too, something may be said."""
    async with asyncio.timeout(60):
        while not re.search(
            rb"^dial_results_receiver_journal_waiting_callbacks 0.0$", await metrics_of(one), re.MULTILINE
        ):
            await asyncio.sleep(0.05)


async def metrics_of(one: Process) -> bytes:
    return await told(one.admin_port, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


async def scan(
    one: Process, requests: Sequence[bytes] = canaries.every(), *, kafka: bool = False
) -> tuple[str, list[int]]:
    """Send the canaries; return all that the process said, and the statuses that it answered."""
    async with started(one) as process:
        ports = (one.port, one.admin_port)
        answers = await asyncio.gather(*(told(port, request) for port in ports for request in requests))
        if kafka:
            await published(one)
        metrics = await metrics_of(one)
        process.terminate()
        await process.wait()
    text = b"".join([*answers, metrics]).decode()
    assert "Server:" not in text
    return text + one.log.read_text(), [int(status) for status in re.findall(r"HTTP/1.1 (\d+) ", text)]


@pytest.mark.parametrize(
    "level",
    ["debug", *(pytest.param(level, marks=pytest.mark.faults) for level in ("info", "warning", "error"))],
)
async def test_no_canary_comes_out(tmp_path: Path, level: str) -> None:
    one = Process(
        tmp_path,
        RECEIVER_LOG_LEVEL=level,
        RECEIVER_ACCESS_LOG="all",
        RECEIVER_KEEPALIVE_S="3",
        RECEIVER_BODY_TIMEOUT_S="3",
        RECEIVER_REQUIRED_HEADER="X-Blu-Key",
        RECEIVER_REQUIRED_HEADER_VALUE=canaries.HEADER_VALUE,
    )
    said, statuses = await scan(one)
    assert canaries.hits(said) == []
    assert "Traceback" not in said
    assert {200, 400, 404, 413} <= set(statuses)
    assert statuses.count(200) >= len(canaries.good())
    assert ('"status":200' in said) == (level in ("debug", "info"))
    print(f"canaries at level {level}: {len(statuses)} answers, {len(said)} characters said, 0 hits")


async def test_no_canary_comes_out_of_a_full_journal(tmp_path: Path) -> None:
    one = Process(
        tmp_path,
        RECEIVER_LOG_LEVEL="debug",
        RECEIVER_ACCESS_LOG="all",
        RECEIVER_KEEPALIVE_S="3",
        RECEIVER_JOURNAL_QUOTA_BYTES="200000",
    )
    said, statuses = await scan(one, canaries.good() * 4)
    assert "journal-full" in said
    assert {200, 503} <= set(statuses)
    assert canaries.hits(said) == []
    assert "Traceback" not in said


@pytest.mark.faults
async def test_no_canary_comes_out_of_a_failing_disk(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("SKIPPED: the shim needs a C compiler")
    shim, source = tmp_path / "shim.so", Path(__file__).parents[1] / "faults" / "fdatasync_shim.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(shim), str(source), "-ldl"], check=True)
    one = Process(
        tmp_path,
        RECEIVER_LOG_LEVEL="debug",
        RECEIVER_ACCESS_LOG="all",
        RECEIVER_KEEPALIVE_S="3",
        LD_PRELOAD=str(shim),
        FAIL_AT="12",
    )
    answers = []
    async with started(one) as process:
        while process.returncode is None:
            try:
                answers += await asyncio.gather(*(told(one.port, request) for request in canaries.good()))
            except ConnectionRefusedError:
                break
        async with asyncio.timeout(60):
            assert await process.wait() == 75
    said = b"".join(answers).decode() + one.log.read_text()
    assert "the disk reported an error" in said
    assert canaries.hits(said) == []
    assert "Traceback" not in said
