"""One simulation from its first post to the last look at the sinks, with progress shown and Ctrl-C minded."""

from __future__ import annotations

import asyncio
import secrets
import signal
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ops.token import set_query

from . import report
from .bodies import callbacks
from .client import PATH
from .clock import SpedUpClock
from .compare import PLACES, Comparison
from .ledger import Ledger
from .places import Sinks
from .queries import Queries
from .settle import Look, Underway, settle
from .simulator import Manner, Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from datetime import date
    from pathlib import Path
    from zoneinfo import ZoneInfo

    from rich.console import Console

    from .mishaps import Mishaps


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to post to; `up` is what `up.json` says, None where there is nothing to compare with."""

    url: str
    merchant: str
    timezone: ZoneInfo
    up: dict[str, Any] | None
    merchants_file: Path | None = None
    """Where to write how Blu's query is asked."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to post and how; `speed` is that of Blu's clock; sinks that stand still for `patience_s` are given up."""

    count: int
    seed: int
    day: date
    speed: float
    manner: Manner
    ledger: Path | None
    patience_s: float
    mishaps: Mishaps
    query_port: int | None
    """Where to answer Blu's query meanwhile; None: nowhere."""


async def run(target: Target, plan: Plan, console: Console) -> tuple[bool, dict[str, Any]]:
    """Simulate; print the summary; return whether every promise was kept, and the summary.

    Raises:
        LedgerError: the ledger's file cannot be used.
    """
    with _interruptible() as stopping, Ledger(target.merchant, plan.ledger) as ledger:
        async with _answering(target, plan.query_port, console) as queries:
            return await _run(target, plan, ledger, queries, stopping, console)


async def _run(
    target: Target, plan: Plan, ledger: Ledger, queries: Queries | None, stopping: asyncio.Event, console: Console
) -> tuple[bool, dict[str, Any]]:
    simulator = await _post(target, plan, ledger, queries, stopping, console)
    summary = {"seed": plan.seed, "ledger": plan.ledger and f"{plan.ledger}", **report.posted(simulator)}
    summary |= {"never_posted": plan.mishaps.times_lost, "garbled": plan.mishaps.times_garbled}
    report.show_posted(console, summary)
    look = None
    if target.up is not None and not stopping.is_set():
        look = await _compare(target.up, ledger, plan.patience_s, stopping, console)
        report.show_compared(console, look)
    summary |= {"interrupted": stopping.is_set(), "compared": look and report.compared(look)}
    good = simulator.given_up == 0 and not stopping.is_set() and (look is None or look.good)
    report.show_end(console, summary, good=good)
    return good, summary


@asynccontextmanager
async def _answering(target: Target, port: int | None, console: Console) -> AsyncIterator[Queries | None]:
    """Answer Blu's query while the body runs, and have the `up` know how to ask."""
    if port is None:
        yield None
        return
    queries = Queries(secrets.token_urlsafe(16))
    async with queries.serving(port) as url:
        app_id, app_key = queries.signed
        if target.merchants_file is None:
            console.print(f"appId {app_id}, appKey {app_key}", markup=False, soft_wrap=True)
        else:
            set_query(target.merchants_file, target.merchant, url, app_id, app_key)
        console.print(f"Answering {url}{PATH}", markup=False, soft_wrap=True)
        yield queries


async def _post(
    target: Target, plan: Plan, ledger: Ledger, queries: Queries | None, stopping: asyncio.Event, console: Console
) -> Simulator:
    with _progress(console) as progress:
        task = progress.add_task("posting", total=plan.count)
        clock = SpedUpClock(plan.speed)
        simulator = Simulator(target.url, ledger, clock, plan.manner, stopping, lambda: progress.advance(task))
        made = callbacks(plan.seed, plan.day, target.timezone, plan.count)
        await simulator.run(plan.mishaps.befall(made, ledger, queries))
    return simulator


async def _compare(
    up: dict[str, Any], ledger: Ledger, patience_s: float, stopping: asyncio.Event, console: Console
) -> Look:
    comparison = Comparison(ledger, Sinks(up["postgres_dsn"], up["analytics_uri"], up["crm_url"]))
    underway = Underway(up["receiver_admin_url"], up["kafka_bootstrap_servers"])
    with _progress(console) as progress:
        bars = {place: progress.add_task(place, total=None) for place in PLACES}

        def looked(look: Look) -> None:
            for verdict in look.verdicts:
                progress.update(bars[verdict.place], total=verdict.expected, completed=verdict.right)

        return await settle(comparison, underway, patience_s, stopping, looked)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def _interruptible() -> Iterator[asyncio.Event]:
    """Give out an event that the first Ctrl-C sets; a second one breaks off as usual."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop() -> None:
        stopping.set()
        restore()

    def restore() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])

    before = {number: signal.getsignal(number) for number in signals}
    for number in signals:
        loop.add_signal_handler(number, stop)
    try:
        yield stopping
    finally:
        restore()
