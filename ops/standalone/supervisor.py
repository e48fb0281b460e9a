"""One part of the pipeline as a process of its own: started, watched, restarted with backoff, held down on request."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ops.standalone.process import last_lines, spawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from ops.standalone.process import Part

STOPPED_ON_PURPOSE = 78  # an exit code that says: do not restart me
CANNOT_RUN = 127  # as a shell has it
READY_S = 60.0
_ASK_EVERY_S = 0.05
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_HEALTHY_S = 30.0  # a part that ran this long starts its backoff from the beginning


class PartError(Exception):
    """A part did not become ready; the message says which and holds the last lines of its log."""


class Supervised:
    """A part under supervision.

    Args:
        part: what to run.
        tasks: holds the supervision; a bug in it ends the whole `up`.
        changed: called after every start and every end of the process.
        say: takes lines for the operator.
    """

    def __init__(
        self, part: Part, tasks: asyncio.TaskGroup, changed: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        self.part = part
        self._tasks = tasks
        self._changed = changed
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._supervision: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._no_more_waiting = asyncio.Event()
        self._spawning = asyncio.Lock()
        self._one_request = asyncio.Lock()
        self._short_lives = 0

    @property
    def pid(self) -> int | None:
        """The process, None while there is none."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def held(self) -> bool:
        """Whether it is down because somebody, or it itself, asked for that."""
        return not self._wanted.is_set()

    async def start(self) -> None:
        """Start it, or bring it back, and wait until it answers. Raises PartError."""
        async with self._one_request:
            self._wanted.set()
            self._no_more_waiting.set()
            if self._supervision is None:
                self._supervision = self._tasks.create_task(self._keep_running(), name=f"keep {self.part.name} running")
            await self._until_ready()

    async def stop(self) -> None:
        """Ask it to end, and hold it down; kill it when it takes too long."""
        async with self._one_request:
            await self._end(self.part.stop_signal)

    async def kill(self) -> None:
        """End it at once (SIGKILL), and hold it down."""
        async with self._one_request:
            await self._end(signal.SIGKILL)

    async def close(self) -> None:
        """Stop it and the supervision, whatever else was asked for."""
        await self._end(self.part.stop_signal)
        if self._supervision is not None:
            self._supervision.cancel()
            await asyncio.wait([self._supervision])

    async def _end(self, number: signal.Signals) -> None:
        self._wanted.clear()
        async with self._spawning:
            process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(self.part.stop_s):
                await process.wait()
        except TimeoutError:
            self._say(f"{self.part.name} did not stop within {self.part.stop_s:g} s and is killed")
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _keep_running(self) -> None:
        while True:
            await self._wanted.wait()
            began = time.monotonic()
            code = await self._run_once()
            self._short_lives = 0 if time.monotonic() - began > _HEALTHY_S else self._short_lives + 1
            if self.held:
                self._short_lives = 0
                continue
            self._report(code)
            if code == STOPPED_ON_PURPOSE:
                self._wanted.clear()
                continue
            await self._wait_before_restart()

    async def _run_once(self) -> int:
        async with self._spawning:
            if self.held:
                return 0
            try:
                self._process = await spawn(self.part)
            except OSError as error:
                self._say(f"{self.part.name} cannot be run: {error}")
                return CANNOT_RUN
        self._changed()
        try:
            return await self._process.wait()
        finally:
            self._changed()

    async def _wait_before_restart(self) -> None:
        longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(self._short_lives, 10))
        self._no_more_waiting.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(longest * random.uniform(0.5, 1.0)):  # noqa: S311  # jitter
                await self._no_more_waiting.wait()

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(READY_S):
                while not (self.pid and await self.part.ready()):
                    if self.held:
                        raise PartError(f"{self.part.name} ended and stays down\n{last_lines(self.part.log)}")
                    await asyncio.sleep(_ASK_EVERY_S)
        except TimeoutError:
            said = last_lines(self.part.log)
            raise PartError(f"{self.part.name} was not ready within {READY_S:g} s\n{said}") from None

    def _report(self, code: int) -> None:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        then = "stays down, as that code asks" if code == STOPPED_ON_PURPOSE else "is restarted"
        self._say(f"{self.part.name} {how} and {then}; the end of {self.part.log}:\n{last_lines(self.part.log)}")
