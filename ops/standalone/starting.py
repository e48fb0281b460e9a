"""Bring all parts up, side by side where they do not need each other."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from typing import TYPE_CHECKING

from consumers.sinks.storage.schema import schema_is_current
from ops import topics
from ops.standalone import jars
from schemas.topics import CONSUMERS, topic_specs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from ops.standalone.pipeline import Pipeline
    from ops.standalone.supervisor import Supervised

_SAY_EVERY_S = 2.0


class FormatError(Exception):
    """Kafka's own tool did not prepare its folder; the message holds what it said."""


class Starting:
    """The start of one run; `say` takes lines for the operator."""

    def __init__(self, pipeline: Pipeline, parts: Mapping[str, Supervised], say: Callable[[str], None]) -> None:
        self._pipeline = pipeline
        self._parts = parts
        self._say = say
        self._broken_off = threading.Event()

    async def everything(self) -> None:
        """Return when every part answers, topics and tables are there. Raises what the first failing step raised."""
        try:
            await _together(self._kafka(), self._postgres(), self._part("sandbox-crm"))
            await _together(*(self._part(name) for name in ("receiver", *CONSUMERS)))
        finally:
            self._broken_off.set()

    async def _kafka(self) -> None:
        await asyncio.to_thread(jars.classpath, self._progress())
        try:
            await asyncio.to_thread(self._pipeline.kafka.format)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            raise FormatError(str(error)) from error
        await self._part("kafka")
        options = {"bootstrap_servers": self._pipeline.kafka.bootstrap_servers}
        await self._timed("topics", topics.apply(options, topic_specs(1)))

    async def _postgres(self) -> None:
        await asyncio.to_thread(self._pipeline.postgres.format)
        await self._part("postgres")
        await self._timed("tables", self._migrate())

    async def _migrate(self) -> None:
        dsn = self._pipeline.postgres.dsn
        if await schema_is_current(dsn):
            return
        from consumers.sinks.storage.migrate import migrate  # noqa: PLC0415  # Alembic: a second that a warm start saves

        await migrate(dsn)

    async def _part(self, name: str) -> None:
        await self._timed(name, self._parts[name].start())

    async def _timed(self, name: str, work: Coroutine[None, None, object]) -> None:
        began = time.monotonic()
        await work
        self._say(f"{name:<12} ready after {time.monotonic() - began:.1f} s")

    def _progress(self) -> Callable[[int, int], None]:
        """Return what the fetching threads tell how far they are; it breaks them off when the start is."""
        said_at = 0.0

        def fetched(done: int, of: int) -> None:
            nonlocal said_at
            if self._broken_off.is_set():
                raise jars.JarError("broken off")
            if done == of or time.monotonic() - said_at > _SAY_EVERY_S:
                said_at = time.monotonic()
                self._say(f"kafka        {done} of {of} jars fetched and verified")

        return fetched


async def _together(*steps: Coroutine[None, None, None]) -> None:
    """Run them side by side; when one fails cancel the others, and raise what it raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for step in steps:
                tasks.create_task(step)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
