"""An open-loop load: so many requests a second, come what may, each timed from the moment when it was due.

A request that is late because the server was slow counts as slow, so nothing is left out of the percentiles
(coordinated omission). Runs as a process of its own, at real-time priority where it may, so that the broker on the same
core does not delay it.

    python -m benchmarks.receiver.steady URL --rate 1000 --seconds 5 --body FILE
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .load import LOAD_CPUS, ROOT, with_record

LAST_ANSWERS_S = 5.0


@dataclass(frozen=True)
class Steady:
    """What came back. A sample is the moment when a request was due (monotonic seconds) and how long it took, ms."""

    samples: Sequence[tuple[float, float]]
    failed: int
    late_p99_ms: float
    """How late the generator itself was: its own share of the figures."""

    def percentile_ms(self, percent: float, since_s: float = 0, until_s: float = float("inf")) -> float:
        times = sorted(took for due, took in self.samples if since_s <= due <= until_s)
        return times[min(len(times) - 1, int(len(times) * percent / 100))] if times else float("nan")


def post(url: str, body: bytes, rate: float, seconds: float, connections: int = 64) -> Steady:
    """Run it in a process of its own; blocks."""
    command = [sys.executable, "-m", __name__, url, "--rate", f"{rate:g}", "--seconds", f"{seconds:g}"]
    command += ["--connections", str(connections)]
    done = subprocess.run(
        ["taskset", "-c", ",".join(map(str, LOAD_CPUS)), *command],
        input=body,
        capture_output=True,
        check=True,
        cwd=ROOT,
        timeout=seconds + 30,
    )
    return Steady(**json.loads(done.stdout))


class Sender(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._answer = b""
        self.due = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if self._answer.endswith(b"}"):  # each of our answers does
            good, self._answer = self._answer.startswith(b"HTTP/1.1 200 "), b""
            self._load.answered(self, good)

    def connection_lost(self, _: Exception | None) -> None:
        self._load.lost(self)


class Load:
    """Sends what is due on an idle connection; with none idle it waits, and its time runs."""

    def __init__(self, path: str, host: str, body: bytes) -> None:
        self._head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n".encode()
        self._body = body
        self._sent = 0
        self.waiting: deque[float] = deque()
        self.idle: list[Sender] = []
        self.under_way: set[Sender] = set()
        self.samples: list[tuple[float, float]] = []
        self.late_ms: list[float] = []
        self.failed = 0

    def due(self, at: float) -> None:
        self.waiting.append(at)
        self.late_ms.append((time.monotonic() - at) * 1e3)
        self._send()

    def answered(self, sender: Sender, good: bool) -> None:
        self.samples.append((sender.due, (time.monotonic() - sender.due) * 1e3))
        self.failed += not good
        self.under_way.discard(sender)
        self.idle.append(sender)
        self._send()

    def lost(self, sender: Sender) -> None:
        self.failed += sender in self.under_way
        self.under_way.discard(sender)
        with suppress(ValueError):
            self.idle.remove(sender)

    def _send(self) -> None:
        while self.waiting and self.idle:
            sender = self.idle.pop()
            sender.due = self.waiting.popleft()
            self._sent += 1
            body = with_record(self._body, self._sent)
            self.under_way.add(sender)
            sender.transport.write(b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body))


async def _run(options: argparse.Namespace, body: bytes) -> Load:
    url = urlsplit(options.url)
    load = Load(url.path, url.netloc, body)
    loop = asyncio.get_running_loop()
    for _ in range(options.connections):
        _, sender = await loop.create_connection(lambda: Sender(load), url.hostname, url.port)
        load.idle.append(sender)
    began = loop.time() + 0.05
    for number in range(int(options.rate * options.seconds)):
        at = began + number / options.rate
        if (left := at - loop.time()) > 0:
            await asyncio.sleep(left)
        load.due(at)
    deadline = loop.time() + LAST_ANSWERS_S
    while (load.waiting or load.under_way) and loop.time() < deadline:
        await asyncio.sleep(0.01)  # the answers come one by one
    load.failed += len(load.waiting) + len(load.under_way)
    return load


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.receiver.steady", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--body", type=Path, help="file with the body (standard input)")
    options = parser.parse_args()
    body = options.body.read_bytes() if options.body else sys.stdin.buffer.read()
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    gc.disable()
    # epoll waits whole milliseconds, select microseconds.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        load = runner.run(_run(options, body))
    late = sorted(load.late_ms)[int(len(load.late_ms) * 0.99)]
    print(json.dumps({"samples": load.samples, "failed": load.failed, "late_p99_ms": late}))


if __name__ == "__main__":
    main()
