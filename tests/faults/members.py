"""Consumers as processes that are killed and frozen by the hundred; what the fault tests of all sinks share."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.standalone.kafka import LocalKafka
from schemas import topics
from tests.integration.delivery import Kafka, until_committed

ROOT = Path(__file__).parents[2]
LIMIT_S = 60.0

# A consumer takes seconds to start; one that is forked from a process that has read all its code, milliseconds.
_NURSERY = """
import importlib, os, signal, sys
from consumers import __main__ as consumers
from consumers.sink import Batching
from schemas import topics

topics.DIAL_RESULTS, name, linger_s, first = sys.argv[1:]
sink = importlib.import_module("consumers.sinks." + name)
exec(first)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    path, size = line.split()
    pid = os.fork()
    if pid == 0:
        sink.BATCHING = Batching(max_events=int(size), max_bytes=8_000_000, linger_s=float(linger_s))
        log = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os._exit(consumers.main([name]))
    print(pid, flush=True)
"""


class QuickKafka(LocalKafka):
    """Takes a silent consumer for dead after 2 s instead of 6."""

    def _settings(self) -> str:
        return super()._settings() + "group.min.session.timeout.ms=1000\n"


@dataclass
class Member:
    """One consumer process."""

    pid: int
    log: Path

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    @property
    def alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    async def assigned(self) -> None:
        """Wait until it has partitions."""
        await until(lambda: b"partitions_assigned" in self.log.read_bytes() if self.log.exists() else False)

    async def ended(self) -> None:
        await until(lambda: not self.alive)


class Nursery:
    """Starts consumers."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        assert process.stdin
        assert process.stdout
        self._ask, self._answer = process.stdin, process.stdout
        self._folder = folder
        self.members: list[Member] = []

    async def start(self, batch_events: int = 40) -> Member:
        log = self._folder / f"consumer-{len(self.members)}.log"
        self._ask.write(f"{log} {batch_events}\n".encode())
        self._ask.flush()
        member = Member(int(await asyncio.to_thread(self._answer.readline)), log)
        self.members.append(member)
        return member

    def logged(self) -> str:
        return "".join(member.log.read_text() for member in self.members if member.log.exists())


@contextmanager
def nursery(
    folder: Path, kafka: Kafka, sink: str, *, linger_s: float = 0.0, first: str = "", **environment: str
) -> Iterator[Nursery]:
    """Give what starts consumers of this sink; `first` is Python that the process runs before, `sink` its module."""
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "CONSUMER_ADMIN_PORT": "0",
        "CONSUMER_SESSION_TIMEOUT_S": "2",
    }
    command = [sys.executable, "-c", _NURSERY, topics.DIAL_RESULTS, sink, str(linger_s), first]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | settings | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    found = Nursery(process, folder)
    try:
        yield found
    finally:
        for member in found.members:
            if member.alive:
                member.send(signal.SIGKILL)
        process.kill()
        process.communicate()


async def until(condition: Callable[[], Any], limit_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.01)


async def until_done(kafka: Kafka, consumer: str, topic: str | None = None) -> None:
    """Wait until the group has committed everything that stands in the topic."""
    await until_committed(kafka, consumer, topic, 5 * LIMIT_S)


def report(text: str) -> None:
    print(f"\n{text}", flush=True)  # the counts are the result
