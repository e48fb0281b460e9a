"""One consumer process on a backlog: how fast it comes to its end, and what it costs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from ops.standalone.ports import free_ports
from schemas import metrics

_LOOK_S = 0.05
_LIMIT_S = 600.0
_STOP_S = 30


@dataclass(frozen=True)
class Run:
    """What one run came to. The clock begins when the process has its partitions, start-up is not in it."""

    events: int
    seconds: float
    """From having its partitions until the last event was durable and committed."""
    cpu_s: float
    """Processor time of the process alone in that time."""
    rss_mb: float
    """The most that it ever held, start-up included."""

    @property
    def per_second(self) -> float:
        return self.events / self.seconds


async def run_to_end(sink: str, kafka: str, events: int, environment: Mapping[str, str]) -> Run:
    """Run `python -m consumers SINK` until it has done (and committed) so many events; then stop it in good order.

    Raises:
        RuntimeError: it ended by itself; the message holds the end of its log.
        TimeoutError: ten minutes were not enough.
    """
    async with asyncio.timeout(_LIMIT_S), consumer(sink, kafka, environment) as one:
        await one.until_ready()
        began, cpu_before_s = time.monotonic(), one.cpu_s()
        await one.until_done(events)
        return Run(events, time.monotonic() - began, one.cpu_s() - cpu_before_s, one.rss_mb())


class Process:
    """A consumer process with its admin port."""

    def __init__(self, process: subprocess.Popen[bytes], admin: aiohttp.ClientSession, log: Path) -> None:
        self._process = process
        self._admin = admin
        self._log = log

    async def until_ready(self) -> None:
        """Wait until it has its partitions and its sink."""
        while await self._get("/readyz") is None:
            await asyncio.sleep(_LOOK_S / 4)

    async def until_done(self, events: int) -> None:
        """Wait until so many events are durable and committed since its start."""
        while await self.done() < events:
            await asyncio.sleep(_LOOK_S)

    async def done(self) -> int:
        """Return how many events are durable and committed since its start."""
        text = await self._get("/metrics") or ""
        families = text_string_to_metric_families(text)
        return sum(int(found.value) for one in families if one.name == metrics.EVENTS_DONE for found in one.samples[:1])

    async def _get(self, path: str) -> str | None:
        if self._process.poll() is not None:
            end = self._log.read_text()[-2_000:]
            raise RuntimeError(f"the consumer ended with {self._process.returncode}:\n{end}")
        try:
            async with self._admin.get(path) as answer:
                return await answer.text() if answer.ok else None
        except aiohttp.ClientConnectionError:
            return None

    def cpu_s(self) -> float:
        """Return the processor time that it took so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        """Return the most memory that it ever held."""
        status = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


@asynccontextmanager
async def consumer(sink: str, kafka: str, environment: Mapping[str, str]) -> AsyncIterator[Process]:
    """Run a consumer process beside what is measured; stop it in good order on leaving."""
    port = free_ports(["any"])["any"]
    settings = {"KAFKA_BOOTSTRAP_SERVERS": kafka, "CONSUMER_ADMIN_PORT": str(port)} | dict(environment)
    command = [sys.executable, "-m", "consumers", sink]
    with tempfile.NamedTemporaryFile(prefix="dial-results-bench-", suffix=".log") as log:
        process = subprocess.Popen(  # noqa: ASYNC220  # nothing else runs meanwhile
            command, env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=log
        )
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as admin:
                yield Process(process, admin, Path(log.name))
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, _STOP_S)
