"""The analytics sink: how fast a backlog becomes rows, how fast they are asked, and that other engines agree."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from deltalake import DeltaTable

from ops.analytics import answer, reports

from . import backlog, engines, lake, machine
from .figure import Figure
from .one_process import consumer

_EVENTS = 1_000_000
_ROWS = 10_000_000
_HOURS = 4
_LOOKS = 20
_ROUNDS = 3


class _Run(NamedTuple):
    """Of a backlog: the speed from the start, that of its last three quarters and their CPU an event, the memory."""

    events: int
    per_second: float
    steady: float
    cpu_us: float
    rss_mb: float


async def measure(scale: float) -> list[Figure]:
    """Measure what issue C asks of the analytics sink."""
    events, rows = int(_EVENTS * scale), max(250_000, int(_ROWS * scale))
    with tempfile.TemporaryDirectory(prefix="dial-results-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        grown = str(folder / "grown")
        await asyncio.to_thread(lake.fill, grown, rows, _HOURS)
        asked = await asyncio.to_thread(_reports, grown, rows)
        compared = await asyncio.to_thread(engines.compare, grown)
        first = await _backlog(str(folder / "empty"), events)
        later = await _backlog(grown, events)
        return [*_speed(first, later, rows), await _freshness(str(folder / "fresh")), *asked, *compared]


async def _backlog(uri: str, events: int) -> _Run:
    """Let a process work on a backlog; its first quarter (start, warm-up, reading the recent ids) counts apart."""
    async with machine.kafka("analytics") as kafka:
        await backlog.fill(kafka, backlog.results(events))
        async with consumer("analytics", kafka, _settings(uri)) as one:
            await one.until_ready()
            began = time.monotonic()
            await one.until_done(events // 4)
            warm, cpu_s, done = time.monotonic(), one.cpu_s(), await one.done()
            await one.until_done(events)
            ended = time.monotonic()
            steady, cpu_us = (events - done) / (ended - warm), (one.cpu_s() - cpu_s) / (events - done) * 1e6
            return _Run(events, events / (ended - began), steady, cpu_us, one.rss_mb())


def _settings(uri: str) -> dict[str, str]:
    return {"ANALYTICS_URI": uri, "ANALYTICS_PSEUDONYM_KEY": "benchmark"}


def _speed(first: _Run, later: _Run, rows: int) -> list[Figure]:
    flat = later.steady / first.steady
    memory = max(first.rss_mb, later.rss_mb)
    cost = f"compaction on; {first.cpu_us:.1f} µs of CPU each"
    said = f"last three quarters of {first.events:,} events of about 870 bytes, {cost}"
    whole = "from having its partitions: start and warm-up included"
    grown = f"into a table of {rows:,} rows of {_HOURS} hours; {flat:.0%} of the speed into an empty one"
    again = "the same from its start: reading the recent ids included"
    return [
        Figure("Kafka to commit", ">= 70,000", first.steady, "events/s", first.steady >= 70_000, said),
        Figure("Kafka to commit, from the start", "", first.per_second, "events/s", None, whole),
        Figure("Kafka to commit, grown table", "within 20 %", later.steady, "events/s", flat >= 0.8, grown),
        Figure("Kafka to commit, grown table, from the start", "", later.per_second, "events/s", None, again),
        Figure("memory", "<= 500", memory, "MB RSS", memory <= 500, "the most of both runs"),
    ]


async def _freshness(uri: str) -> Figure:
    """Publish single results, and look how long each takes to be in the table."""
    waits: list[float] = []
    async with machine.kafka("analytics") as kafka, consumer("analytics", kafka, _settings(uri)) as one:
        await one.until_ready()
        for number in range(_LOOKS):
            began = time.monotonic()
            await backlog.fill(kafka, backlog.results(1, first=number))
            await one.until_done(number + 1)
            waits.append(time.monotonic() - began)
    assert DeltaTable(uri).count() == _LOOKS
    said = f"the longest of {_LOOKS} single results, from before publishing; median {median(waits):.1f} s"
    return Figure("a result is in the table after", "<= 10", max(waits), "s", max(waits) <= 10, said)


def _reports(uri: str, rows: int) -> list[Figure]:
    figures = []
    for name in reports.REPORTS:
        took = []
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            found = answer.ask(uri, {}, reports.sql(name, reports.Asked()), 0)
            took.append(time.perf_counter() - began)
        said = f"{rows:,} rows, table opened anew, {len(found.rows):,} rows of answer read; median of {_ROUNDS}"
        figures.append(Figure(f"report {name}", "< 2", median(took), "s", median(took) < 2, said))
    return figures
