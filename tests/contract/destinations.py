"""Where the contract suite lets each of our sinks write to. A sink without an entry runs with its default settings."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from consumers.sinks.storage.migrate import migrate
from tests.services import Database, free_port

START_S = 120.0
_REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Destination:
    """`environment` leads to it, `away` (on top of that) to where nothing answers.

    `bad_record_id` makes an event that the destination can never take; None where there is no such thing.
    """

    environment: dict[str, str] = field(default_factory=dict)
    away: dict[str, str] | None = None
    bad_record_id: str | None = None


NOWHERE = "127.0.0.1:1"
_NO_DATABASE = f"postgresql://nobody:nothing@{NOWHERE}/nothing"


@asynccontextmanager
async def stdout(_postgres: Callable[[], Database], folder: Path) -> AsyncIterator[Destination]:
    yield Destination(away={"STDOUT_PATH": str(folder / "missing" / "stdout.jsonl")})


@asynccontextmanager
async def storage(postgres: Callable[[], Database], _folder: Path) -> AsyncIterator[Destination]:
    dsn = await _migrated(postgres)
    yield Destination({"STORAGE_DSN": dsn}, {"STORAGE_DSN": _NO_DATABASE}, bad_record_id="no\0text")


@asynccontextmanager
async def crm(postgres: Callable[[], Database], folder: Path) -> AsyncIterator[Destination]:
    dsn, port = await _migrated(postgres), free_port()
    environment = {
        "CRM_URL": f"http://127.0.0.1:{port}",
        "CRM_TOKEN": "made-up",
        "CRM_LEDGER_DSN": dsn,
    }
    # Without the limit that the sandbox shares with HubSpot: the suite is faster than any merchant.
    command = ("-m", "ops.standalone.crm", "--port", str(port), "--state", str(folder / "crm"), "--limit", "1000000")
    process = await asyncio.to_thread(_start, command, SANDBOX_CRM_TOKEN="made-up")
    try:
        await _answers(f"http://127.0.0.1:{port}/healthz")
        yield Destination(environment, {"CRM_URL": f"http://{NOWHERE}"}, bad_record_id="no\0text")
    finally:
        process.terminate()
        process.wait(START_S)


@asynccontextmanager
async def analytics(_postgres: Callable[[], Database], folder: Path) -> AsyncIterator[Destination]:
    environment = {"ANALYTICS_URI": str(folder / "delta"), "ANALYTICS_PSEUDONYM_KEY": "made-up-" * 8}
    yield Destination(environment)


DESTINATIONS: dict[str, Callable[[Callable[[], Database], Path], AbstractAsyncContextManager[Destination]]] = {
    "stdout": stdout,
    "storage": storage,
    "crm": crm,
    "analytics": analytics,
}


@asynccontextmanager
async def default(_postgres: Callable[[], Database], _folder: Path) -> AsyncIterator[Destination]:
    yield Destination()


async def _migrated(postgres: Callable[[], Database]) -> str:
    dsn = await asyncio.to_thread(postgres().fresh_database)
    await migrate(dsn)
    return dsn


async def _answers(url: str) -> None:
    async with asyncio.timeout(START_S), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)


def _start(arguments: tuple[str, ...], **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen((sys.executable, *arguments), env=os.environ | environment, cwd=_REPOSITORY)
