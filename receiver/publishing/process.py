"""The receiver's side of publishing: a process of its own, started, served and started again here.

Publishing takes as much processor time as acknowledging. In the same process it would hold the interpreter's lock just
when an answer is due (`docs/receiver.md` has the measurement).
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import structlog

from receiver.publishing.messages import LINE_BYTES, Ask, Did, Held, There, said_by_publisher, tell
from schemas.backoff import Backoff

if TYPE_CHECKING:
    from receiver.counts import PublishCounts
    from receiver.journal import Journal
    from schemas.kafka_client import KafkaClient

log = structlog.get_logger()

_SEGMENTS = 3  # told at a time: the one being read, and what follows
_BACKOFF = Backoff(first_s=0.25, most_s=5.0)
_STEADY_S = 60.0  # a process that lived so long did not fail at its start
_END_S = 3.0  # its client has a second to close


class Publishing(Protocol):
    """What carries a journal to Kafka: a process of its own, or a Publisher on the journal's loop."""

    async def run(self) -> None:
        """Publish until cancelled. Raises JournalFailed."""


class PublishingProcess:
    """Keeps one publishing process running."""

    def __init__(self, journal: Journal, counts: PublishCounts, log_level: str, kafka: KafkaClient) -> None:
        """`kafka` is handed to the process, over its socket; everything else it takes from our environment."""
        self._journal = journal
        self._counts = counts
        self._log_level = log_level
        self._kafka = kafka

    async def run(self) -> None:
        """Publish until cancelled, then end the process, in `_END_S` at most. Raises JournalFailed."""
        ends = 0
        while True:
            since_s = time.monotonic()
            code = await self._live()
            ends = 1 if time.monotonic() - since_s > _STEADY_S else ends + 1
            self._counts.kafka_up = False
            log.error("publishing_process_ended", exit_code=code, waiting=self._journal.waiting)
            await asyncio.sleep(_BACKOFF.wait_s(ends))

    async def _live(self) -> int | None:
        """Return the exit code of one process, from its start to its end."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await self._start(theirs.fileno())
        reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_BYTES)
        try:
            tell(writer, self._kafka)
            with suppress(ConnectionError):
                await self._serve(reader, writer)
        finally:
            writer.close()
            await _end(process)
        return process.returncode

    async def _start(self, fd: int) -> asyncio.subprocess.Process:
        journal = (str(self._journal.path), str(self._journal.published))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "receiver.publishing", str(fd), *journal, self._log_level),
            pass_fds=(fd,),
            stdin=asyncio.subprocess.DEVNULL,
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Return when the process is gone. Raises JournalFailed."""
        answering: asyncio.Task[None] | None = None
        try:
            while line := await reader.readline():
                message = said_by_publisher(line)
                if isinstance(message, Did):
                    await self._did(message)
                else:
                    answering = asyncio.create_task(self._answer(message, writer))
        finally:
            if answering:
                answering.cancel()

    async def _answer(self, asked: Ask, writer: asyncio.StreamWriter) -> None:
        await self._journal.wait(asked.after)
        behind = [
            Held(*segment.identity, segment.size_bytes, segment.end, segment.first or 0, segment.last)
            for segment in self._journal.segments_behind(asked.after)[:_SEGMENTS]
        ]
        tell(writer, There(behind))

    async def _did(self, done: Did) -> None:
        self._counts.add(done.counts)
        if done.published > self._journal.published:
            await asyncio.to_thread(self._journal.mark_published, done.published)


async def _end(process: asyncio.subprocess.Process) -> None:
    """It ends by itself when its socket closes; if it hangs, it is killed."""
    try:
        async with asyncio.timeout(_END_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
