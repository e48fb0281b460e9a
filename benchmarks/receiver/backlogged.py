"""A receiver that starts with a backlog: how fast it drains, how acknowledging fares, what memory it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.consumers.figure import Figure
from schemas.metrics import JOURNAL_WAITING, PUBLISHED, QUARANTINED
from schemas.topics import DIAL_RESULTS

from .backlog import clone, fill
from .broker import count, running_broker
from .load import body_of, server
from .outages import DISTURBED
from .plan import Plan, median_of, spread_of
from .sections import figure_table, table
from .settle import settle
from .steady import Steady, post
from .variants import Variant, ours
from .watch import metrics, rss_mb, wait_ready

RATE = 1_000
LOOK_S = 0.25
DRAINED = 2_000  # callbacks that wait anyway while callbacks come in: two of the publisher's windows
READY_S = 30


@dataclass(frozen=True)
class Look:
    at_s: float
    waiting: float
    published: float
    rss_mb: float


@dataclass(frozen=True)
class Outcome:
    """One round: the load's answers, and what was seen meanwhile."""

    ready_s: float
    steady: Steady
    looks: list[Look]
    counted: int
    """By how much the topic grew."""

    @property
    def draining(self) -> list[Look]:
        """Return the looks from the first publication to the first moment without a backlog."""
        begun = [look for look in self.looks if look.published]
        until = next((number for number, look in enumerate(begun) if look.waiting < DRAINED), len(begun) - 1)
        return begun[: until + 1]

    @property
    def drained_per_s(self) -> float:
        first, last = self.draining[0], self.draining[-1]
        return (last.published - first.published) / max(LOOK_S, last.at_s - first.at_s)

    @property
    def p99_ms(self) -> float:
        """While it drains, where it does."""
        if len(self.draining) < 2:
            return self.steady.percentile_ms(99)
        return self.steady.percentile_ms(99, self.draining[0].at_s, self.draining[-1].at_s)

    @property
    def peak_mb(self) -> float:
        return max(look.rss_mb for look in self.looks)


async def run_drain(plan: Plan) -> str:
    backlog = plan.backlog or 300_000
    await fill(plan.folder / "backlog", backlog, body_of(1_700))
    rounds: dict[bool, list[Outcome]] = {False: [], True: []}
    async with running_broker(plan.folder / "kafka") as broker:
        for number, draining in plan.alternate((False, True)):
            done = await _round(plan, broker.servers, backlogged=draining)
            rounds[draining].append(done)
            speed = f", {done.drained_per_s:,.0f} callbacks/s published" if draining else ""
            print(f"round {number}, {'draining' if draining else 'no backlog'}: p99 {done.p99_ms:.2f} ms{speed}")
    calm = [done.p99_ms for done in rounds[False]]
    proves = max(calm) < DISTURBED * min(calm)
    calm_ms, drain_ms = (median_of(rounds[state], lambda done: done.p99_ms) for state in (False, True))
    speed = median_of(rounds[True], lambda done: done.drained_per_s)
    left = f"{backlog:,} waiting at the start, 1,700 bytes each; {RATE:,} requests/s come in meanwhile, open loop."
    figures = [
        Figure("callbacks published a second", ">= 25,000", speed, "", speed >= 25_000),
        Figure(
            "p99 while draining, against no backlog",
            "<= 2 x",
            drain_ms / calm_ms,
            "x",
            drain_ms <= 2 * calm_ms if proves else None,
        ),
    ]
    return f"{left}\n\n{_table(rounds)}\n\n{figure_table(figures)}"


async def run_memory(plan: Plan) -> str:
    backlog = plan.backlog or 1_000_000
    await fill(plan.folder / "backlog", backlog, body_of(1_700))
    rounds: dict[str, list[Outcome]] = {}
    async with running_broker(plan.folder / "kafka") as broker:
        for number, (name, kafka) in plan.alternate((("Kafka away", None), ("draining", broker.servers))):
            done = await _round(plan, kafka, backlogged=True)
            rounds.setdefault(name, []).append(done)
            print(f"round {number}, {name}: ready in {done.ready_s:.2f} s, RSS up to {done.peak_mb:.0f} MB")
    figures = []
    for name, several in rounds.items():
        ready_s, peak_mb = max(done.ready_s for done in several), max(done.peak_mb for done in several)
        figures.append(Figure(f"start to ready, {name}, slowest", "< 2 s", ready_s, "s", ready_s < 2))
        figures.append(Figure(f"RSS of all its processes, {name}, peak", "<= 150 MB", peak_mb, "MB", peak_mb <= 150))
    said = f"{backlog:,} waiting at the start, 1,700 bytes each; {RATE:,} requests/s come in meanwhile, open loop."
    return f"{said}\n\n{figure_table(figures)}"


async def _round(plan: Plan, kafka: str | None, *, backlogged: bool) -> Outcome:
    variant = ours("c", "", plan.new_folder(), kafka)
    journal = Path(variant.environment["RECEIVER_JOURNAL_DIR"])
    if backlogged:
        clone(plan.folder / "backlog", journal)
    before = await count(kafka, DIAL_RESULTS) if kafka else 0
    with _started(variant, plan.folder / "server.log") as (pid, ready_s):
        load = asyncio.create_task(asyncio.to_thread(post, variant.url, body_of(1_700), RATE, plan.seconds))
        looks = []
        while not load.done():
            looks.append(await asyncio.to_thread(_look, variant.admin_port, pid))
            await asyncio.sleep(LOOK_S)
        steady = await load
    counted = await count(kafka, DIAL_RESULTS) - before if kafka else 0
    assert counted >= looks[-1].published, f"{looks[-1].published} were said to be published, the topic has {counted}"
    assert not steady.failed, f"{steady.failed} of {len(steady.samples)} were not acknowledged"
    return Outcome(ready_s, steady, looks, counted)


@contextmanager
def _started(variant: Variant, log: Path) -> Iterator[tuple[int, float]]:
    began = time.monotonic()
    settle()
    with server(variant.command, variant.environment, variant.port, log) as process:
        wait_ready(variant.admin_port, READY_S)
        yield process.pid, time.monotonic() - began


def _look(admin_port: int, pid: int) -> Look:
    seen = metrics(admin_port)
    assert not seen[f"{QUARANTINED}_total"], "the benchmark's own bodies cannot be read"
    return Look(time.monotonic(), seen[JOURNAL_WAITING], seen[f"{PUBLISHED}_total"], rss_mb(pid))


def _table(rounds: dict[bool, list[Outcome]]) -> str:
    columns = ("", "published a second (min - max)", "p99 ms (min - max)", "RSS MB, peak")
    return table(
        columns,
        [
            (
                "draining" if draining else "no backlog",
                spread_of(several, lambda done: done.drained_per_s, ",.0f") if draining else "",
                spread_of(several, lambda done: done.p99_ms, ".2f"),
                f"{max(done.peak_mb for done in several):.0f}",
            )
            for draining, several in rounds.items()
        ],
    )
