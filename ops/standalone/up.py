"""`dial-results up`: everything on this machine, from nothing to the proof, then until Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from consumers.sinks.storage.migrate import migrate
from consumers.sinks.storage.schema import schema_is_current
from ops.standalone import jars
from ops.standalone.control import FILE as CONTROL_FILE
from ops.standalone.control import Control
from ops.standalone.folder import PORTS, DataFolder, FolderInUse, default_folder
from ops.standalone.pipeline import GROUND, STOP_ORDER, Pipeline, prepare
from ops.standalone.ports import PortTaken, check_free
from ops.standalone.postgres import PostgresError
from ops.standalone.proof import NotProven, prove
from ops.standalone.show import live_status, show_proof
from ops.standalone.supervisor import PartError, Supervised
from ops.topics import TopicRefused
from ops.topics import apply as apply_topics
from schemas.kafka import KafkaSettings
from schemas.topics import CONSUMERS, topic_specs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

CHECK_FAILED, TRY_LATER = 1, 75
_FAILURES = (PartError, TopicRefused, NotProven, jars.JarError, PostgresError, PortTaken, OSError, TimeoutError)


def _ports(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, int]:
    fixed = {}
    for text in given:
        name, _, number = text.partition("=")
        if name not in PORTS or not number.isdecimal() or not 0 < int(number) < 65_536:  # noqa: PLR2004
            raise click.BadParameter(f"{text!r}: say NAME=NUMBER; names: {' '.join(PORTS)}")
        fixed[name] = int(number)
    return fixed


@click.command()
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_folder,
    show_default="in your data home",
    help="Folder that keeps everything; a second `up` on it goes on with its data.",
)
@click.option("--check", is_flag=True, help="End after the proof: exit code 0, or 1 with the reason.")
@click.option(
    "--port",
    "fixed",
    multiple=True,
    callback=_ports,
    metavar="NAME=NUMBER",
    help="Fix a port, for example receiver=8080.",
)
def up(data: Path, check: bool, fixed: dict[str, int]) -> None:
    r"""Start the whole pipeline on this machine, with real parts, and prove that it works.

    \b
    Examples:
      dial-results up
      dial-results up --check --data /tmp/try
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a broker that is still starting is no news
    console, folder = Console(), DataFolder(data)
    try:
        with folder.locked():
            sys.exit(asyncio.run(Up(console, folder, fixed).run(check=check)))
    except FolderInUse as error:
        click.echo(f"up: {error}", err=True)
        sys.exit(TRY_LATER)
    except OSError as error:
        click.echo(f"up: {folder.path}: {error}", err=True)
        sys.exit(CHECK_FAILED)


class Up:
    """One run, from the first jar to the last process."""

    def __init__(self, console: Console, folder: DataFolder, fixed_ports: dict[str, int]) -> None:
        self._console = console
        self._folder = folder
        self._fixed_ports = fixed_ports
        self._began = time.monotonic()
        self._parts: dict[str, Supervised] = {}
        self._pipeline: Pipeline | None = None

    async def run(self, *, check: bool) -> int:
        """Return the exit code. A signal stops what is under way, and then everything in order."""
        loop, asked_to_stop = asyncio.get_running_loop(), asyncio.Event()
        with ExitStack() as signals:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, asked_to_stop.set)
                signals.callback(loop.remove_signal_handler, number)
            async with asyncio.TaskGroup() as tasks:
                work = tasks.create_task(self._work(tasks, check=check))
                stop = tasks.create_task(asked_to_stop.wait())
                await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
                stop.cancel()
                if not work.done():
                    self._say("stopping ...")
                    work.cancel()
                    await asyncio.wait((work,))
                await self._stop()
        return 0 if work.cancelled() else work.result()

    async def _work(self, tasks: asyncio.TaskGroup, *, check: bool) -> int:
        try:
            pipeline = await self._start(tasks)
            proof = await prove(pipeline)
        except _FAILURES as error:
            self._console.print(f"[bold red]up failed:[/] {error or type(error).__name__}", highlight=False)
            return CHECK_FAILED
        show_proof(self._console, pipeline, proof)
        self._say(f"proven after {time.monotonic() - self._began:.1f} s")
        if not check:
            control = Control(self._parts, pipeline.secrets["control_secret"])
            await control.open(pipeline.ports["control"])
            told = {"url": pipeline.url("control"), "secret": pipeline.secrets["control_secret"]}
            self._folder.write(CONTROL_FILE, told)
            try:
                await live_status(self._console, pipeline)
            finally:
                await control.close()
        return 0

    async def _start(self, tasks: asyncio.TaskGroup) -> Pipeline:
        classpath = await asyncio.to_thread(jars.classpath, self._fetched)
        self._pipeline = pipeline = await asyncio.to_thread(prepare, self._folder, self._fixed_ports, classpath)
        check_free(pipeline.ports)
        await asyncio.gather(asyncio.to_thread(pipeline.kafka.format), asyncio.to_thread(pipeline.postgres.format))
        self._parts = {
            name: Supervised(part, tasks, self._changed, self._say) for name, part in pipeline.parts().items()
        }
        await self._start_parts(GROUND)
        await self._timed("topics", self._make_topics(pipeline))
        await self._timed("tables", self._migrate(pipeline.postgres.dsn))
        await self._start_parts(("receiver", *CONSUMERS))
        return pipeline

    async def _make_topics(self, pipeline: Pipeline) -> None:
        settings = KafkaSettings(bootstrap_servers=pipeline.kafka.bootstrap_servers)
        await apply_topics(settings.client_options(), topic_specs(1))

    async def _migrate(self, dsn: str) -> None:
        if not await schema_is_current(dsn):
            await migrate(dsn)

    async def _start_parts(self, names: Iterable[str]) -> None:
        await asyncio.gather(*(self._timed(name, self._parts[name].start()) for name in names))

    async def _timed(self, name: str, work: Awaitable[object]) -> None:
        began = time.monotonic()
        await work
        self._say(f"{name:<12} ready after {time.monotonic() - began:.1f} s")

    async def _stop(self) -> None:
        """Consumers first, then the receiver, so that each finishes while what it needs is still there."""
        with suppress(FileNotFoundError):
            (self._folder.path / CONTROL_FILE).unlink()
        if self._parts:
            await asyncio.gather(*(self._parts[name].close() for name in CONSUMERS))
            for name in STOP_ORDER[len(CONSUMERS) :]:
                await self._parts[name].close()
        self._say("everything is stopped")

    def _changed(self) -> None:
        if self._pipeline is not None:
            pids = {name: part.pid for name, part in self._parts.items()}
            self._folder.write("up.json", self._pipeline.up_json(pids))

    def _fetched(self, done: int, of: int) -> None:
        if done % 10 == 0 or done == of:
            self._say(f"Kafka's jars: {done} of {of} fetched and verified")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)
