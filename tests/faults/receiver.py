"""A receiver as a process that can be killed, and a sender like Blu that keeps account of what it was promised."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from ops.token import new_token

ROOT = Path(__file__).parents[2]
ANSWER = b'{"code":200,"message":"success"}'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Receiver:
    """How to start one receiver, again and again, on the same ports and journal."""

    folder: Path
    kafka: str = "127.0.0.1:1"  # nobody listens there: it journals
    extra: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()  # strace, taskset, ...

    def __post_init__(self) -> None:
        self.port, self.admin_port = free_port(), free_port()
        self.merchants = self.folder / "merchants.toml"
        self.token = new_token(self.merchants, "demo")
        self.journal = self.folder / "journal"
        self.log = self.folder / "receiver.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/callbacks/{self.token}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "RECEIVER_PORT": str(self.port),
            "RECEIVER_ADMIN_PORT": str(self.admin_port),
            "RECEIVER_MERCHANTS_FILE": str(self.merchants),
            "RECEIVER_JOURNAL_DIR": str(self.journal),
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            **self.extra,
        }

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            command = [*self.prefix, sys.executable, "-m", "receiver", *arguments]
            return subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)

    def wait_ready(self, process: subprocess.Popen[bytes], limit_s: float = 60) -> float:
        """Return how long it took to listen, seconds."""
        started = time.monotonic()
        while time.monotonic() - started < limit_s and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return time.monotonic() - started
            time.sleep(0.01)
        raise AssertionError(f"not listening after {limit_s} s, exit {process.poll()}:\n{self.log.read_text()[-3000:]}")

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        process = self.start(*arguments)
        try:
            self.wait_ready(process)
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(20)


@dataclass
class Ledger:
    """What was promised: ids answered 200, and every other outcome by name."""

    acknowledged: set[str] = field(default_factory=set)
    outcomes: dict[str, int] = field(default_factory=dict)

    def count(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1


def callback(record_id: str, padding: int = 1_500) -> bytes:
    return b'{"taskId":1,"records":[{"id":"%s","name":"Made Up","note":"%s"}]}' % (record_id.encode(), b"x" * padding)


async def send(session: aiohttp.ClientSession, url: str, record_id: str, ledger: Ledger, padding: int = 1_500) -> None:
    """Post one result and note what came back; only a whole, right 200 is a promise."""
    try:
        async with session.post(url, data=callback(record_id, padding)) as response:
            answer = await response.read()
    except aiohttp.ClientConnectorError:
        ledger.count("refused")  # nobody listened: not accepted
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        ledger.count(type(error).__name__)
    else:
        ledger.count(str(response.status))
        if response.status == 200:
            assert answer == ANSWER
            ledger.acknowledged.add(record_id)


@asynccontextmanager
async def load(
    url: str, ledger: Ledger, prefix: str, senders: int = 8, rate: float = 300, padding: int = 1_500
) -> AsyncIterator[None]:
    """Post unique results from several connections until the block ends."""
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=senders)) as session:

        async def one(sender: int) -> None:
            number = 0
            while True:
                began = time.monotonic()
                await send(session, url, f"{prefix}-{sender}-{number}", ledger, padding)
                number += 1
                await asyncio.sleep(max(0.001, senders / rate - (time.monotonic() - began)))

        tasks = [asyncio.create_task(one(sender)) for sender in range(senders)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task


def journaled_ids(journal: Path) -> set[str]:
    """Read every callback of a journal that nobody has open, by the journal's own reader; ids of `callback` bodies."""
    from receiver.journal import Journal, JournalLimits  # noqa: PLC0415

    async def read() -> set[str]:
        found: set[str] = set()
        opened = Journal.open(journal, JournalLimits(quota_bytes=10**10))
        try:
            after = 0
            while entries := opened.read(after, 1_000, 8_000_000):
                found |= {entry.body.split(b'"id":"', 1)[1].split(b'"', 1)[0].decode() for entry in entries}
                after = entries[-1].sequence
        finally:
            await opened.close()
        return found

    return asyncio.run(read())
