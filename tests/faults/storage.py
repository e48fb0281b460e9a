"""Storage consumers that are killed and frozen by the hundred, a database that stops, a connection that is cut."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from ops.standalone.postgres import LocalPostgres
from schemas.event import DialResult
from tests.integration.delivery import Kafka
from tests.services import START_S, free_port

from . import members
from .members import Nursery


@contextmanager
def nursery(
    folder: Path, kafka: Kafka, dsn: str, *, max_poll_s: float = 300, write_timeout_s: float = 30
) -> Iterator[Nursery]:
    first = f"consumers.broker.MAX_POLL_S = {max_poll_s}"
    settings = {"STORAGE_DSN": dsn, "STORAGE_WRITE_TIMEOUT_S": str(write_timeout_s)}
    with members.nursery(folder, kafka, "storage", first=first, **settings) as found:
        yield found


@dataclass
class Outcome:
    """What a run came to, counted in the table itself."""

    rows: int
    extra: int
    missing: int

    @classmethod
    async def of(cls, dsn: str, events: Sequence[DialResult]) -> Outcome:
        """Compare the table with what had to come out."""
        found = Counter(await ids(dsn))
        expected = {one.event_id for one in events}
        return cls(found.total(), found.total() - len(found.keys() & expected), len(expected - found.keys()))


async def ids(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return [str(row["event_id"]) for row in await connection.fetch("SELECT event_id FROM dial_result")]
    finally:
        await connection.close()


class Server:
    """A PostgreSQL of the test's own, to be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._postgres = LocalPostgres(folder, free_port(), "made-up-password")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        return self._postgres.dsn

    async def start(self) -> None:
        await asyncio.to_thread(self._postgres.format)
        self._process = subprocess.Popen(  # noqa: ASYNC220  # nothing else runs meanwhile
            self._postgres.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await self._postgres.wait_ready(START_S)

    def stop(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_S)


class Cutter:
    """A proxy that cuts the connection at the end of a COPY: before the server hears of it, or before the client does.

    In the first case nothing is committed, in the second everything is and nobody knows.
    """

    def __init__(self, dsn: str) -> None:
        self._host, self._port = dsn.rpartition("@")[2].split("/")[0].split(":")
        self.cuts: Counter[str] = Counter()
        self.planned: list[str] = []

    @asynccontextmanager
    async def listening(self, dsn: str) -> AsyncIterator[str]:
        """Give the DSN that leads through the proxy."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            yield dsn.replace(f":{self._port}/", f":{port}/")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, downstream = await asyncio.open_connection(self._host, int(self._port))
        ways = (
            self._forward(reader, downstream, "before", b"c\x00\x00\x00\x04"),  # CopyDone
            self._forward(upstream, writer, "after", b"COPY "),  # the tag of CommandComplete
        )
        tasks = [asyncio.create_task(way) for way in ways]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, downstream):
            end.close()
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await task

    async def _forward(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, moment: str, sign: bytes) -> None:
        while data := await source.read(1 << 20):
            if self.planned and self.planned[0] == moment and sign in data:
                self.planned.pop(0)
                self.cuts[moment] += 1
                return
            to.write(data)
            await to.drain()
