"""The storage consumer beside a plain COPY of the same rows by asyncpg, in alternating rounds on the same table."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from statistics import median

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from consumers.sinks.storage.rows import COLUMNS, Row, Rows
from schemas import topics
from schemas.event import DialResult

from . import backlog, machine
from .figure import Figure
from .one_process import Run, run_to_end

ROUNDS = 3
EVENTS = 240_000
BATCH = 5_000
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # of a row's times
MORE_BYTES = 700
_YARDSTICK_FROM = 10**8  # numbers of results that are not in Kafka


@dataclass
class Bench:
    """One broker, one database, and how far both are."""

    kafka: str
    dsn: str
    database: asyncpg.Connection
    events: int
    more_bytes: int = 0
    published: int = 0
    runs: list[Run] = field(default_factory=list)

    async def fresh(self) -> float:
        """Publish new results, then let a consumer take them; return events/s."""
        await backlog.fill(self.kafka, self._results(self.published))
        self.published += self.events
        return await self.consume(self.events)

    def _results(self, first: int) -> Iterator[DialResult]:
        return backlog.results(self.events, first=first, more_bytes=self.more_bytes)

    async def consume(self, events: int) -> float:
        run = await run_to_end("storage", self.kafka, events, {"STORAGE_DSN": self.dsn})
        self.runs.append(run)
        assert await self.rows() >= self.published
        return run.per_second

    async def yardstick(self, number: int) -> float:
        """COPY ready rows of as many other results, by asyncpg as it comes; return rows/s."""
        source, seconds = self._results(_YARDSTICK_FROM + number * self.events), 0.0
        rows = Rows({})
        while some := [_plain(rows.row(one)) for one in islice(source, BATCH)]:
            began = time.perf_counter()
            await self.database.copy_records_to_table("dial_result", records=some, columns=COLUMNS)
            seconds += time.perf_counter() - began
        return self.events / seconds

    async def rounds(self) -> list[tuple[float, float]]:
        """Return ours and the yardstick's speed, taken in turns."""
        return [await self._round(number) for number in range(ROUNDS)]

    async def _round(self, number: int) -> tuple[float, float]:
        """Let each go first in turn: who goes second meets a longer table."""
        if number % 2:
            plain = await self.yardstick(number)
            return await self.fresh(), plain
        return await self.fresh(), await self.yardstick(number)

    async def repeats(self) -> float:
        """Let a consumer take everything again, from the beginning."""
        await _rewind(self.kafka)
        return await self.consume(self.published)

    async def rows(self) -> int:
        return int(await self.database.fetchval("SELECT count(*) FROM dial_result"))


async def measure(scale: float) -> list[Figure]:
    """Measure speed at two sizes of record beside the yardstick, repeats and memory; about three minutes at scale 1."""
    async with machine.kafka("storage") as kafka:
        async with bench_of(kafka, int(EVENTS * scale)) as bench:
            rounds = await bench.rounds()
            repeats = await bench.repeats()
        async with bench_of(kafka, int(EVENTS * scale / 2), MORE_BYTES) as longer:
            longer_rounds = await longer.rounds()
    peak_mb, each = max(run.rss_mb for run in bench.runs + longer.runs), f"{bench.published:,} events"
    return [
        *_speed(bench, rounds, "records of about 510 bytes"),
        *_speed(longer, longer_rounds, "records of about 1,220 bytes"),
        Figure("repeats only", ">= 40,000", repeats, "events/s", repeats >= 40_000, each),
        Figure("resident memory", "<= 200", peak_mb, "MB", peak_mb <= 200, "peak of all runs"),
    ]


@asynccontextmanager
async def bench_of(kafka: str, events: int, more_bytes: int = 0) -> AsyncIterator[Bench]:
    """Give one with a database of its own."""
    async with machine.postgres() as dsn:
        database = await asyncpg.connect(dsn)
        try:
            yield Bench(kafka, dsn, database, events, more_bytes)
        finally:
            await database.close()


def _speed(bench: Bench, rounds: Sequence[tuple[float, float]], size: str) -> list[Figure]:
    ours, plain = (median(column) for column in zip(*rounds, strict=True))
    low, high = min(one for one, _ in rounds), max(one for one, _ in rounds)
    each = f"medians of {len(rounds)} rounds of {bench.events:,} events, in turns; {size}"
    cpu_us = median(run.cpu_s / run.events for run in bench.runs[: len(rounds)]) * 1e6
    return [
        Figure("Kafka to commit", ">= 35,000", ours, "events/s", ours >= 35_000, f"{each}; {low:,.0f} - {high:,.0f}"),
        Figure("plain COPY of ready rows", "", plain, "rows/s", None, f"asyncpg, {BATCH:,} rows each, same table"),
        Figure("beside the plain COPY", ">= 0.9", ours / plain, "x", ours / plain >= 0.9, each),
        Figure("the consumer's own CPU", "", cpu_us, "us/event", None, f"of one core; {size}"),
    ]


def _plain(row: Row) -> Row:
    """Give what asyncpg takes as it comes: times as `datetime`, JSON as text."""
    times = [None if one is None else _EPOCH + timedelta(microseconds=one) for one in (row[4], row[9])]
    json = (None if one is None else str(one, "utf-8") for one in row[10:])
    return (*row[:4], times[0], *row[5:9], times[1], *json)


async def _rewind(kafka: str) -> None:
    """Let the group, which has no member now, begin again."""
    places = [TopicPartition(topics.DIAL_RESULTS, number) for number in range(topics.PARTITIONS)]
    client = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=topics.group("storage"), enable_auto_commit=False)
    await client.start()
    try:
        client.assign(places)
        await client.commit(dict.fromkeys(places, 0))
    finally:
        await client.stop()
