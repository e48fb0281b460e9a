"""How long after Blu's answer a result's row is there: receiver, Kafka and the storage consumer, all real."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import asyncpg

from ops.standalone.ports import free_ports
from ops.token import new_token

from .one_process import consumer

RATE = 200
_LOOK_S = 0.01
_LIMIT_S = 60.0
_BODY = b'{"taskId":7,"records":[{"id":"fresh-%d","name":"Made Up","mobile":"0177****3990","note":"%s"}]}'
_ROWS = "SELECT record_id FROM dial_result WHERE merchant = 'demo' AND record_id = ANY($1)"


async def freshness(kafka: str, dsn: str, database: asyncpg.Connection, seconds: float, first: int = 0) -> list[float]:
    """Post `RATE` results a second; return for each the seconds from its answer until its row was seen.

    What looks for rows looks every 10 ms, which counts against us.
    """
    answered: dict[str, float] = {}
    seen: dict[str, float] = {}
    async with consumer("storage", kafka, {"STORAGE_DSN": dsn}) as one, _receiver(kafka) as url:
        await one.until_ready()
        await _post(url, first, {})  # the first one finds everything cold: it is waited for, and not counted
        async with asyncio.timeout(_LIMIT_S):
            while not await database.fetch(_ROWS, [f"fresh-{first}"]):
                await asyncio.sleep(_LOOK_S)
        looking = asyncio.create_task(_look(database, answered, seen))
        began, count = time.monotonic(), int(RATE * seconds)
        async with asyncio.TaskGroup() as group, aiohttp.ClientSession() as session:
            for number in range(1, count + 1):
                await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
                group.create_task(_post(url, first + number, answered, session))
            async with asyncio.timeout(_LIMIT_S):
                while len(seen) < count:
                    await asyncio.sleep(_LOOK_S)
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
    return [seen[one] - answered[one] for one in answered]


async def _look(database: asyncpg.Connection, answered: dict[str, float], seen: dict[str, float]) -> None:
    while True:
        waiting = [one for one in answered if one not in seen]
        found = await database.fetch(_ROWS, waiting) if waiting else []
        now = time.monotonic()
        seen |= {row["record_id"]: now for row in found}
        await asyncio.sleep(_LOOK_S)


async def _post(
    url: str, number: int, answered: dict[str, float], session: aiohttp.ClientSession | None = None
) -> None:
    if session is None:
        async with aiohttp.ClientSession() as own:
            return await _post(url, number, answered, own)
    async with session.post(url, data=_BODY % (number, b"x" * 400)) as answer:
        assert answer.status == 200
        await answer.read()
    answered[f"fresh-{number}"] = time.monotonic()
    return None


@asynccontextmanager
async def _receiver(kafka: str) -> AsyncIterator[str]:
    """Run a receiver; give the address that it answers at."""
    ports = free_ports(["receiver", "admin"])
    with tempfile.TemporaryDirectory(prefix="dial-results-bench-") as folder:
        merchants = Path(folder) / "merchants.toml"
        settings = {
            "RECEIVER_PORT": str(ports["receiver"]),
            "RECEIVER_ADMIN_PORT": str(ports["admin"]),
            "RECEIVER_MERCHANTS_FILE": str(merchants),
            "RECEIVER_JOURNAL_DIR": str(Path(folder) / "journal"),
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
        }
        token = new_token(merchants, "demo")
        process = subprocess.Popen(  # noqa: ASYNC220  # nothing else runs meanwhile
            [sys.executable, "-m", "receiver"], env=os.environ | settings, stderr=subprocess.DEVNULL
        )
        try:
            await _listens(f"http://127.0.0.1:{ports['admin']}/readyz")
            yield f"http://127.0.0.1:{ports['receiver']}/callbacks/{token}"
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, _LIMIT_S)


async def _listens(url: str) -> None:
    async with asyncio.timeout(_LIMIT_S), aiohttp.ClientSession() as session:
        while True:
            with suppress(aiohttp.ClientConnectionError):
                async with session.get(url) as answer:
                    if answer.ok:
                        return
            await asyncio.sleep(_LOOK_S)
