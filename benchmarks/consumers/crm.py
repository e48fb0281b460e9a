"""The crm consumer against the sandbox CRM: how much of the destination's limit it uses, and never a call more."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from ops.standalone.ports import free_ports

from . import backlog, machine
from .figure import Figure
from .one_process import Run, run_to_end

_LIMIT, _WINDOW_S = 190, 10.0  # HubSpot Professional and Enterprise
_PER_CALL = 100
_WINDOWS = 5
_SMALL, _CONTACTS = 1_000, 200
_RSS_MB = 200
_TOKEN = "made-up"  # noqa: S105  # of a sandbox on this machine
_START_S = 30


async def measure(scale: float) -> list[Figure]:
    """Run one process over a small backlog of few contacts, then over one that fills several windows of the limit."""
    full = max(int(_LIMIT * _PER_CALL * _WINDOWS * scale), _LIMIT * _PER_CALL * 3)
    async with machine.kafka("crm") as kafka, machine.postgres() as dsn, _sandbox() as crm:
        settings = {"CRM_URL": crm, "CRM_TOKEN": _TOKEN, "CRM_LEDGER_DSN": dsn}
        await backlog.fill(kafka, backlog.results(_SMALL, contacts=_CONTACTS))
        await run_to_end("crm", kafka, _SMALL, settings)
        few = await _calls(crm)
        await asyncio.sleep(_WINDOW_S)  # a new process does not know what the last one used of the window
        await backlog.fill(kafka, backlog.results(full, first=_SMALL))
        run = await run_to_end("crm", kafka, full, settings)
        calls = (await _calls(crm))[len(few) :]
    return _figures(few, calls, run)


def _figures(few: list[dict[str, Any]], calls: list[dict[str, Any]], run: Run) -> list[Figure]:
    starts = [float(call["at"]) for call in calls]
    used = 100 * _in_use(starts)
    most = max(_within(starts, at) for at in starts)
    refused = sum(call["status"] == 429 for call in calls)
    how = f"{run.events:,} events, each of another contact, {len(calls)} calls of {_PER_CALL}; ledger in PostgreSQL"
    return [
        Figure("limit in use", ">= 95", used, f"% of {_LIMIT} calls in {_WINDOW_S:.0f} s", used >= 95, how),
        Figure("most calls in any window", f"<= {_LIMIT}", most, "calls", most <= _LIMIT, "by the sandbox's clock"),
        Figure("calls answered 429", "0", refused, "calls", refused == 0),
        Figure("calls for 1,000 events of 200 contacts", "<= 2", len(few), "calls", len(few) <= 2, "HubSpot's shape"),
        Figure("speed at that limit", "", run.per_second, "events/s", None),
        Figure("memory", f"<= {_RSS_MB}", run.rss_mb, "MB RSS at most", run.rss_mb <= _RSS_MB),
        Figure("processor time", "", run.cpu_s / run.events * 1e6, "us an event", None),
    ]


def _in_use(starts: list[float]) -> float:
    """Return the share of the limit: a call and the one that is `_LIMIT` calls later could be one window apart."""
    apart = [later - earlier for earlier, later in zip(starts, starts[_LIMIT:], strict=False)]
    return _WINDOW_S / (sum(apart) / len(apart))


def _within(starts: list[float], at: float) -> int:
    return sum(at <= other < at + _WINDOW_S for other in starts)


@asynccontextmanager
async def _sandbox() -> AsyncIterator[str]:
    port = free_ports(["crm"])["crm"]
    with tempfile.TemporaryDirectory(prefix="dial-results-bench-") as folder:
        command = [
            sys.executable,
            "-m",
            "ops.standalone.crm",
            "--port",
            str(port),
            "--state",
            str(Path(folder, "state")),
        ]
        process = subprocess.Popen(  # noqa: ASYNC220  # nothing else runs meanwhile
            command, env=os.environ | {"SANDBOX_CRM_TOKEN": _TOKEN}, stdout=subprocess.DEVNULL
        )
        try:
            await _answers(f"http://127.0.0.1:{port}/healthz")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(_START_S)


async def _answers(url: str) -> None:
    async with asyncio.timeout(_START_S), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)


async def _calls(crm: str) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"{crm}/calls") as answer:
        return list(await answer.json())
