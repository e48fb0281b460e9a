"""One run of `up`: started, proven, shown until somebody asks it to stop, stopped in order."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg
from aiokafka.errors import KafkaError

from ops.standalone import leftovers
from ops.standalone.control import FILE as CONTROL_FILE
from ops.standalone.control import Control
from ops.standalone.jars import JarError
from ops.standalone.pipeline import Pipeline, prepare
from ops.standalone.ports import PortTaken, check_free
from ops.standalone.postgres import PostgresError
from ops.standalone.proof import NotProven, prove
from ops.standalone.show import live_status, show_proof
from ops.standalone.starting import FormatError, Starting
from ops.standalone.supervisor import PartError, Supervised
from ops.topics import TopicRefused
from schemas.merchants import MerchantsFileError
from schemas.topics import CONSUMERS

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from rich.console import Console

    from ops.standalone.folder import DataFolder

CHECK_FAILED = 1
# Consumers first, then the receiver, so that each finishes while what it needs is still there.
STOP_ORDER = (CONSUMERS, ("receiver",), ("sandbox-crm",), ("kafka",), ("postgres",))
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FAILURES = (
    *(PartError, TopicRefused, NotProven, JarError, PostgresError, FormatError, PortTaken, MerchantsFileError),
    *(KafkaError, asyncpg.PostgresError, OSError, TimeoutError),
)


class Running:
    """One run, from the first port to the last process."""

    def __init__(self, console: Console, folder: DataFolder, fixed_ports: dict[str, int]) -> None:
        self._console = console
        self._folder = folder
        self._fixed_ports = fixed_ports
        self._began = time.monotonic()
        self._parts: dict[str, Supervised] = {}
        self._pipeline: Pipeline | None = None
        self._all_started = False
        self._asked_to_stop = asyncio.Event()

    async def run(self, *, check: bool) -> int:
        """Return the exit code. A signal breaks off whatever is under way, and then everything is stopped in order."""
        loop = asyncio.get_running_loop()
        for number in _ENDS:
            loop.add_signal_handler(number, self._ask_to_stop)
        try:
            async with asyncio.TaskGroup() as tasks:  # holds every part's supervision: a bug there ends the run
                try:
                    return await self._until_asked_to_stop(self._work(tasks, check=check), asked=CHECK_FAILED * check)
                finally:
                    await self._stop()
        finally:
            for number in _ENDS:
                signal.signal(number, signal.SIG_IGN)  # nothing is left to stop: an impatient Ctrl-C has no say now

    def _ask_to_stop(self) -> None:
        self._say("still stopping ..." if self._asked_to_stop.is_set() else "stopping ...")
        self._asked_to_stop.set()

    async def _until_asked_to_stop(self, work: Coroutine[None, None, int], *, asked: int) -> int:
        """Return the work's exit code, or `asked` if somebody asked first: an unfinished check has not held."""
        working, stop = asyncio.create_task(work), asyncio.create_task(self._asked_to_stop.wait())
        try:
            await asyncio.wait((working, stop), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else asked
        finally:
            working.cancel()
            stop.cancel()
            await asyncio.wait((working, stop))

    async def _work(self, tasks: asyncio.TaskGroup, *, check: bool) -> int:
        try:
            pipeline = self._pipeline = await self._prepare()
            self._parts = {
                name: Supervised(part, tasks, self._changed, self._say) for name, part in pipeline.parts().items()
            }
            await Starting(pipeline, self._parts, self._say).everything()
        except _FAILURES as error:
            self._failed("up failed", error)
            return CHECK_FAILED
        control = await self._open_control(pipeline)
        try:
            proven = await self._prove(pipeline)
            if not check:
                await live_status(self._console, pipeline, self._parts)
            return 0 if proven else CHECK_FAILED
        finally:
            await control.close()

    async def _prepare(self) -> Pipeline:
        for name in (self._folder.up_file.name, CONTROL_FILE):
            (self._folder.path / name).unlink(missing_ok=True)  # of an earlier run: whoever waits for it waits for ours
        await leftovers.clear_away(self._folder, self._say)
        pipeline = await asyncio.to_thread(prepare, self._folder, self._fixed_ports)
        check_free(pipeline.ports)
        return pipeline

    async def _open_control(self, pipeline: Pipeline) -> Control:
        control = Control(self._parts, pipeline.secrets["control_secret"])
        await control.open(pipeline.ports["control"])
        told = {"url": pipeline.url("control"), "secret": pipeline.secrets["control_secret"]}
        self._folder.write(CONTROL_FILE, told)
        self._all_started = True
        self._changed()
        return control

    async def _prove(self, pipeline: Pipeline) -> bool:
        """Show the proof; without one say why, and go on: what runs may be looked at."""
        try:
            proof = await prove(pipeline)
        except _FAILURES as error:
            self._failed("not proven", error)
            return False
        show_proof(self._console, pipeline, proof)
        self._say(f"proven {time.monotonic() - self._began:.1f} s after the start")
        return True

    async def _stop(self) -> None:
        (self._folder.path / CONTROL_FILE).unlink(missing_ok=True)
        for names in STOP_ORDER:
            await asyncio.gather(*(self._parts[name].close() for name in names if name in self._parts))
        self._say(f"everything is stopped; the data stays in {self._folder.path}")

    def _changed(self) -> None:
        """Write down which processes there are: for scripts, and for the next `up` should this one be killed."""
        leftovers.remember(self._folder, self._parts)
        if self._pipeline is not None and self._all_started:
            pids = {name: part.pid for name, part in self._parts.items()}
            self._folder.write(self._folder.up_file.name, self._pipeline.up_json(pids))

    def _failed(self, what: str, error: Exception) -> None:
        self._say(f"{what}: {error}" if str(error) else f"{what}: {type(error).__name__}")

    def _say(self, text: str) -> None:
        with suppress(OSError):  # the terminal may be gone: no reason to leave anything running
            self._console.print(text, highlight=False, soft_wrap=True, markup=False)
