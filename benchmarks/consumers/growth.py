"""Storage as its table grows: how fast it is at one and at five million rows, and how fresh before and after."""

from __future__ import annotations

from collections.abc import Sequence

from . import machine
from .figure import Figure
from .freshness import freshness
from .storage import Bench, bench_of

EVENTS = 120_000
SMALL, LARGE = 1_000_000, 5_000_000
_ROUNDS = 2  # a checkpoint is just before the first of them
_LATE_FROM = 10**6  # numbers of posted results

# Copies of what is there under other ids: realistic rows, made by the server alone.
_GROW = """
INSERT INTO dial_result
    SELECT gen_random_uuid(), merchant, task_id || copy, record_id || copy, received_at, source, name,
           mobile, conclusion, called_at, ext_vars, call_vars, record
    FROM (SELECT * FROM dial_result LIMIT $1) AS few, generate_series(1, $2) AS copy
"""


async def measure(scale: float) -> list[Figure]:
    """Measure freshness on an empty table, speed at two sizes, freshness again; about three minutes at scale 1."""
    async with machine.kafka("storage") as kafka, bench_of(kafka, int(EVENTS * scale)) as bench:
        seen = await freshness(kafka, bench.dsn, bench.database, seconds=10 * scale)
        await bench.fresh()  # what grows is made of these
        small, before = await _at(bench, int(SMALL * scale))
        large, after = await _at(bench, int(LARGE * scale))
        late = await freshness(kafka, bench.dsn, bench.database, seconds=10 * scale, first=_LATE_FROM)
    flat, peak_mb = after / before, max(run.rss_mb for run in bench.runs)
    each = f"{after:,.0f} and {before:,.0f} events/s, over {_ROUNDS * bench.events:,} each"
    return [
        Figure(f"up to {large:,} rows beside {small:,}", ">= 0.8", flat, "x", flat >= 0.8, each),
        _freshness("answered to visible, p99", seen, "an empty table"),
        _freshness(f"the same with {large:,} rows", late, "right behind a backlog"),
        Figure("resident memory", "<= 200", peak_mb, "MB", peak_mb <= 200, "peak of all runs"),
    ]


async def _at(bench: Bench, rows: int) -> tuple[int, float]:
    await _grow(bench, rows)
    began = bench.published
    seconds = sum([bench.events / await bench.fresh() for _ in range(_ROUNDS)])
    return await bench.rows(), (bench.published - began) / seconds


async def _grow(bench: Bench, rows: int) -> None:
    """Let the table have at least so many rows."""
    missing = rows - await bench.rows()
    if missing > 0:
        some = min(missing, 100_000)
        await bench.database.execute(_GROW, some, -(-missing // some), timeout=900)
    await bench.database.execute("CHECKPOINT")


def _freshness(name: str, seen: Sequence[float], where: str) -> Figure:
    p50_ms, p99_ms = (sorted(seen)[int(len(seen) * share)] * 1_000 for share in (0.5, 0.99))
    conditions = f"{len(seen):,} results, 200 a second, {where}; p50 {p50_ms:.0f} ms"
    return Figure(name, "<= 500", p99_ms, "ms", p99_ms <= 500, conditions)
