"""`make bench-replay`: what issue D asks of replays beside what they reach; ARGS="copy" or "fresh" for one part.

The copy part counts and copies a million results; the fresh part looks how long live results take to their row in
PostgreSQL without and beside a replay to the same consumer, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import asyncpg

from benchmarks.consumers import machine
from benchmarks.consumers.backlog import fill, results
from benchmarks.consumers.figure import Figure
from benchmarks.consumers.freshness import freshness
from benchmarks.consumers.report import conditions, table
from ops.places import database
from ops.replaying import jobs
from ops.replaying.filters import Filters
from ops.replaying.guard import run
from ops.replaying.jobs import Job
from ops.replaying.plan import Tally
from ops.replaying.run import Runner
from ops.replaying.sources import FromTopic
from schemas import topics

RATE = 5_000
RATED_S = 12.0
FRESH_S = 12.0


def main() -> int:
    """Measure; return 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=["copy", "fresh", []], help="both by default")
    parser.add_argument("--records", type=int, default=1_000_000, help="to be counted and copied")
    asked = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a broker that starts is not there yet
    figures: list[Figure] = []
    if "copy" in asked.parts or not asked.parts:
        figures += run(_copy(asked.records))
    if "fresh" in asked.parts or not asked.parts:
        figures += asyncio.run(_fresh())
    print(table(figures))
    print(f"\n{conditions(asked.records / 1_000_000)}")
    return int(any(one.ok is False for one in figures))


async def _copy(records: int) -> list[Figure]:
    async with machine.kafka("storage") as kafka, machine.postgres() as dsn, database(dsn) as connection:
        await fill(kafka, results(records, contacts=records // 3))
        bench = Bench(kafka, connection)
        offsets_s = await bench.offsets(records)
        keys_s = await bench.counted(Filters(), records)
        content_s = await bench.counted(Filters(conclusions=("HPTP",)), None)
        full = await bench.copied(0, None)
        rated = await bench.copied(RATE, RATED_S)
    size = f"of {records:,} records, a third as many contacts"
    off = abs(rated / RATE - 1) * 100
    return [
        Figure("count by offsets", "<= 5", offsets_s, "s", offsets_s <= 5, size),
        Figure("count with contacts, no filter", "", keys_s, "s", None, size),
        Figure("count with a content filter", "<= 30", content_s, "s", content_s <= 30, f"{size}; --conclusion"),
        Figure("unthrottled copy", ">= 40,000", full, "records/s", full >= 40_000, "a checkpoint a second"),
        Figure("off the rate of 5,000/s", "<= 5", off, "%", off <= 5, f"{rated:,.0f}/s over {RATED_S:.0f} s"),
    ]


class Bench:
    """A topic full of results, and replays of it."""

    def __init__(self, kafka: str, connection: asyncpg.Connection) -> None:
        self._options = {"bootstrap_servers": kafka}
        self._connection = connection

    def _source(self, filters: Filters) -> FromTopic:
        return FromTopic(self._options, topics.PARTITIONS, filters, {}, "bench")

    async def offsets(self, records: int) -> float:
        with _clock() as took:
            _, expected = await self._source(Filters()).begin()
        assert expected.at_most == records
        return took()

    async def counted(self, filters: Filters, records: int | None) -> float:
        source = self._source(filters)
        with _clock() as took:
            progress, expected = await source.begin()
            tally = Tally(None)
            async for lot in source.lots(progress, 10_000):
                await tally.add(lot.chosen)
            counted = (await tally.done(expected)).records
        assert counted
        assert records in (None, counted)
        return took()

    async def copied(self, rate: int, seconds: float | None) -> float:
        """Copy everything, or for so long; return the records a second from the first checkpoint to the last."""
        job = jobs.new(jobs.TOPIC, topics.replay("storage"), "storage", Filters(), rate)
        source = self._source(job.filters)
        job.progress, _ = await source.begin()
        seen: list[tuple[float, int]] = []

        def told(now: Job) -> None:
            seen.append((time.perf_counter(), now.sent))
            if seconds and now.sent and seen[-1][0] - seen[0][0] > seconds:
                runner.pause()

        runner = Runner(self._connection, job, told)
        async with jobs.held(self._connection, job.id):
            await jobs.create(self._connection, job)
            await runner.run(source, self._options)
        (began, first), (ended, last) = seen[0], seen[-1]
        return (last - first) / (ended - began)


async def _fresh() -> list[Figure]:
    async with machine.kafka("storage") as kafka, machine.postgres() as dsn:
        await fill(kafka, results(RATE * int(FRESH_S + 15)))
        connection = await asyncpg.connect(dsn)
        try:
            await freshness(kafka, dsn, connection, 2)  # the consumer is through with what is there
            rounds = [await _round(kafka, dsn, connection, beside=beside) for beside in (False, True) * 2]
        finally:
            await connection.close()
    alone, beside = median(rounds[::2]), median(rounds[1::2])
    each = f"p99 of 200 results a second over {FRESH_S:.0f} s, medians of 2 rounds in turns"
    return [
        Figure("live, answered to visible", "", alone, "ms", None, each),
        Figure("the same beside a replay at 5,000/s", "", beside, "ms", None, "all of it new rows; the job beside it"),
        Figure("beside a replay", "<= 2", beside / alone, "x", beside / alone <= 2, ""),
    ]


async def _round(kafka: str, dsn: str, connection: asyncpg.Connection, *, beside: bool) -> float:
    await connection.execute("TRUNCATE dial_result")
    replay = None
    if beside:
        replay = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-m", "ops", "replay", "--to", "storage", "--rate", str(RATE), "--yes", "--quick"],
            env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": kafka, "STORAGE_DSN": dsn},
        )
    seen = await freshness(kafka, dsn, connection, FRESH_S)
    if replay:
        assert replay.poll() is None, "the replay ended before"
        replay.terminate()
        await asyncio.to_thread(replay.wait, 30)
    return sorted(seen)[int(len(seen) * 0.99)] * 1_000


@contextmanager
def _clock() -> Iterator[Callable[[], float]]:
    began = time.perf_counter()
    ended: list[float] = []
    yield lambda: ended[0] - began
    ended.append(time.perf_counter())


if __name__ == "__main__":
    sys.exit(main())
