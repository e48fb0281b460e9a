from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

COMMAND = (sys.executable, "-c", "from ops.simulate import simulate; simulate()")


@asynccontextmanager
async def receiver(*statuses: int) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A server that answers the first requests of a body with `statuses`, the last one for ever."""
    seen: dict[bytes, int] = {}
    asked = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        asked.set()
        seen[body] = seen.get(body, -1) + 1
        return web.Response(status=statuses[min(seen[body], len(statuses) - 1)])

    app = web.Application()
    app.router.add_post("/callbacks/secret", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/callbacks/secret", asked
    finally:
        await runner.cleanup()


async def start(*arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(*COMMAND, *arguments, stdout=PIPE, stderr=PIPE)


async def finish(process: Process) -> tuple[int | None, str, str]:
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    return process.returncode, out.decode(), err.decode()


async def simulate(*arguments: str) -> tuple[int | None, str, str]:
    return await finish(await start(*arguments))


def up_json(folder: Path, pids: dict[str, int]) -> None:
    up: dict[str, Any] = {"merchant": "demo", "callback_url": "http://127.0.0.1:9/callbacks/secret", "pids": pids}
    (folder / "up.json").write_text(json.dumps(up))


async def test_without_an_up_it_says_what_to_start(tmp_path: Path) -> None:
    code, out, err = await simulate("--data", f"{tmp_path}")
    assert (code, out) == (75, "")
    assert f"start `dial-results up --data {tmp_path}` first" in err


async def test_an_up_that_has_ended_is_none(tmp_path: Path) -> None:
    ended = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await ended.wait()
    up_json(tmp_path, {"receiver": ended.pid})
    code, _, err = await simulate("--data", f"{tmp_path}")
    assert code == 75
    assert "has ended" in err


async def test_an_up_that_runs_is_read_further(tmp_path: Path) -> None:
    up_json(tmp_path, {"receiver": os.getpid()})
    code, _, err = await simulate("--data", f"{tmp_path}")
    assert code == 1
    assert "merchants.toml" in err


async def test_a_plain_posting_run_tells_what_was_answered(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    async with receiver(503, 200) as (url, _):
        to = ("--url", url, "--no-compare", "--ledger", f"{ledger}")
        code, out, err = await simulate(
            *to, "--count", "200", "--rate", "2000", "--repeats", "0", "--seed", "4", "--json"
        )
    summary = json.loads(out)
    assert code == 0, err
    assert (summary["delivered"], summary["given_up"], summary["seed"]) == (200, 0, 4)
    assert summary["statuses"] == {"200": 200, "503": 200}
    assert (
        0 < summary["acknowledged_ms"]["p50"] <= summary["acknowledged_ms"]["p99"] <= summary["acknowledged_ms"]["max"]
    )
    assert summary["compared"] is None
    assert "Nothing was compared" in err
    assert len(ledger.read_text().splitlines()) == 600
    assert "secret" not in out + err + ledger.read_text()


async def test_results_that_blu_gives_up_fail_the_run() -> None:
    async with receiver(503) as (url, _):
        code, out, err = await simulate("--url", url, "--no-compare", "--count", "3", "--speed", "30000", "--json")
    assert (code, json.loads(out)["given_up"]) == (1, 3)
    assert "given up by Blu: 3" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_ends_with_a_summary(number: signal.Signals) -> None:
    async with receiver(200) as (url, asked):
        process = await start("--url", url, "--no-compare", "--count", "100000", "--rate", "50", "--json")
        async with asyncio.timeout(60):
            await asked.wait()
        os.kill(process.pid, number)
        code, out, err = await finish(process)
    summary = json.loads(out)
    assert (code, summary["interrupted"]) == (1, True)
    assert 0 < summary["posted"] < 100_000
    assert "Interrupted" in err
    assert "Traceback" not in err


async def test_a_ledger_in_use_is_said_so(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text("what is this\n")
    code, _, err = await simulate("--url", "http://127.0.0.1:9/", "--no-compare", "--ledger", f"{ledger}")
    assert code == 1
    assert "no ledger of the simulator" in err
    assert "Traceback" not in err


async def test_numbers_that_cannot_be_are_a_usage_error() -> None:
    for wrong in (("--rate", "0"), ("--repeats", "2"), ("--count", "0"), ("--speed", "-1")):
        assert (await simulate(*wrong))[0] == 2
