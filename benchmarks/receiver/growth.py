"""How cost grows with the body's size, with connections, with the journal's backlog and with workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.consumers.figure import Figure

from .backlog import clone, fill
from .broker import running_broker
from .load import LOAD_CPUS, ROOT, SERVER_CPUS, Round, body_of, fire, server
from .plan import Plan, median_of, spread_of
from .sections import DOCS, figure_table, table
from .settle import settle
from .variants import Variant, ours

BOTH_WORKERS = "--workers"
PLOT = "benchmark-receiver-growth.svg"


@dataclass(frozen=True)
class Point:
    """One setting of the four; `axis` is the one that is looked at."""

    axis: str
    value: str
    body_bytes: int = 2_000
    connections: int = 64
    backlog: int = 0
    workers: int = 0
    """0: the receiver alone, without Kafka, on its one core. Else so many, publishing, on every core."""


def points(backlog: int) -> list[Point]:
    sizes = [Point("body", f"{size / 1_000:g} KB", body_bytes=size) for size in (500, 2_000, 10_000, 50_000)]
    many = [Point("connections", f"{count:,}", connections=count) for count in (1, 64, 1_000)]
    waiting = [Point("backlog", f"{count:,}", backlog=count) for count in (0, backlog)]
    workers = [Point("workers", str(count), workers=count) for count in (1, 2)]
    if not has_workers():
        print(f"SKIPPED: workers 1 and 2, since `python -m receiver` has no option {BOTH_WORKERS} yet")
        workers = []
    return sizes + many + waiting + workers


def has_workers() -> bool:
    return any(f'"{BOTH_WORKERS}"' in file.read_text() for file in (ROOT / "receiver").glob("*.py"))


async def run(plan: Plan) -> str:
    all_points = points(plan.backlog or 1_000_000)
    await fill(plan.folder / "backlog", plan.backlog or 1_000_000, body_of(1_700))
    rounds: dict[Point, list[Round]] = {}
    async with running_broker(plan.folder / "kafka") as broker:
        for number, point in plan.alternate(all_points):
            done = await asyncio.to_thread(_round, plan, point, broker.servers)
            rounds.setdefault(point, []).append(done)
            print(f"round {number}, {point.axis} {point.value}: {done.rps:,.0f}/s, p99 {done.p99_ms:.1f} ms")
    plot(rounds, (DOCS if plan.writes else plan.folder) / PLOT)
    said = (
        "Closed loop (wrk). Where nothing else is said: 2 KB, 64 connections, no backlog, one process, acknowledging\n"
        "without Kafka. The rows of the workers publish meanwhile and have every core, which wrk and the broker share."
    )
    return f"{said}\n\n{_table(rounds)}\n\n![growth]({PLOT})\n\n{figure_table(_figures(rounds))}"


def _round(plan: Plan, point: Point, kafka: str) -> Round:
    variant = _variant(plan.new_folder(), point, kafka)
    if point.backlog:
        clone(plan.folder / "backlog", Path(variant.environment["RECEIVER_JOURNAL_DIR"]))
    body = plan.folder / "body.json"
    body.write_bytes(body_of(point.body_bytes))
    cpus = SERVER_CPUS | LOAD_CPUS if point.workers else SERVER_CPUS
    settle()
    with server(variant.command, variant.environment, variant.port, plan.folder / "server.log", cpus) as process:
        return fire(process, variant.url, body, point.connections, plan.seconds)


def _variant(folder: Path, point: Point, kafka: str) -> Variant:
    if point.workers:
        return ours("c", "", folder, kafka, BOTH_WORKERS, str(point.workers))
    return ours("b", "", folder, None)


def _figures(rounds: dict[Point, list[Round]]) -> list[Figure]:
    speeds = {(point.axis, point.value): median_of(done, lambda one: one.rps) for point, done in rounds.items()}
    if ("workers", "2") not in speeds:
        return [Figure("2 workers against 1, publishing", ">= 1.6 x", float("nan"), "not measured", None)]
    ratio = speeds["workers", "2"] / speeds["workers", "1"]
    return [Figure("2 workers against 1, publishing (2 cores for all)", ">= 1.6 x", ratio, "x", ratio >= 1.6)]


def _table(rounds: dict[Point, list[Round]]) -> str:
    columns = ("", "", "requests/s (min - max)", "p50 ms", "p99 ms", "p99.9 ms", "not 200", "CPU us/request", "RSS MB")
    rows = []
    for point, several in rounds.items():
        names = ("p50_ms", "p99_ms", "p999_ms")
        times = [f"{median_of(several, lambda one, name=name: getattr(one, name)):.1f}" for name in names]
        failed = str(sum(one.not_200 for one in several))
        costs = [
            f"{median_of(several, lambda one, name=name: getattr(one, name)):.0f}" for name in ("cpu_us", "rss_mb")
        ]
        rows.append((point.axis, point.value, spread_of(several, lambda one: one.rps, ",.0f"), *times, failed, *costs))
    return table(columns, rows)


def plot(rounds: dict[Point, list[Round]], path: Path) -> None:
    """Draw requests a second as bars, and the p99 as a line on a scale of its own, an axis a panel."""
    import matplotlib as mpl  # noqa: PLC0415  # only this needs it

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    axes_names: Sequence[str] = list(dict.fromkeys(point.axis for point in rounds))
    figure, panels = plt.subplots(1, len(axes_names), figsize=(3.4 * len(axes_names), 3.2), squeeze=False)
    for panel, name in zip(panels[0], axes_names, strict=True):
        shown = {point.value: several for point, several in rounds.items() if point.axis == name}
        panel.bar(list(shown), [median_of(done, lambda one: one.rps) for done in shown.values()], color="#2563eb")
        panel.set_title(name)
        late = panel.twinx()
        late.plot(
            list(shown), [median_of(done, lambda one: one.p99_ms) for done in shown.values()], "o-", color="#d97706"
        )
        late.set_ylim(bottom=0)
    panels[0][0].set_ylabel("requests/s (bars)")
    late.set_ylabel("p99 ms (line)")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
