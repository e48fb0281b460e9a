"""One worker as its supervisor sees it: a process that is started again when it ends by itself."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import orjson
import structlog

from schemas.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Mapping

log = structlog.get_logger()

UNUSABLE = 2  # the exit code of a process whose settings are wrong: starting it again would not help
_BACKOFF = Backoff(first_s=0.1, most_s=5.0)
_STEADY_S = 60.0  # a process that lived so long did not fail at its start
_STOP_S = 20.0  # its servers, its grace and its journal have limits that sum up to less


class WorkerUnusable(Exception):  # noqa: N818  # the supervisor ends with its exit code
    """The worker says that its settings are wrong."""


class Worker:
    """`admin_port` is known while it takes callbacks, None otherwise."""

    def __init__(self, index: int, count: int, environment: Mapping[str, str]) -> None:
        self.index = index
        self._count = count
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._again = False
        self.admin_port: int | None = None
        self.started = asyncio.Event()
        self.restarts = 0

    async def run(self) -> None:
        """Keep it running until cancelled, then stop it cleanly. Raises WorkerUnusable."""
        failures = 0
        while True:
            since_s = time.monotonic()
            code = await self._live()
            if code == UNUSABLE:
                raise WorkerUnusable
            if self._again:
                self._again, failures = False, 0
                continue
            self.restarts += 1
            failures = 1 if time.monotonic() - since_s > _STEADY_S else failures + 1
            log.error("worker_ended", worker=self.index, exit_code=code)
            await asyncio.sleep(_BACKOFF.wait_s(failures))

    def reload(self) -> None:
        """Have it read the merchants' file and the certificate again."""
        if self._process and self.admin_port is not None:
            self._process.send_signal(signal.SIGHUP)

    async def replace(self) -> None:
        """Stop it cleanly and start a fresh one; return when that takes callbacks."""
        if self._process and self.admin_port is not None:
            self._again = True
            self.started.clear()
            self._process.send_signal(signal.SIGTERM)
        await self.started.wait()

    async def _live(self) -> int | None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = process = await self._start(theirs.fileno())
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            with suppress(ConnectionError):
                while line := await reader.readline():
                    self.admin_port = orjson.loads(line)["admin_port"]
                    self.started.set()
            await process.wait()
        finally:
            self.admin_port = None
            writer.close()  # which is how it learns that it is to stop
            await _ended(process)
        return process.returncode

    async def _start(self, fd: int) -> asyncio.subprocess.Process:
        place = ("--worker", str(self.index), "--workers", str(self._count), "--leash", str(fd))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "receiver", *place),
            pass_fds=(fd,),
            stdin=asyncio.subprocess.DEVNULL,
            env=self._environment,
        )


async def _ended(process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
