"""Kafka up, down, paused and slow: the acknowledgement should not notice. And a usual day's load."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.consumers.figure import Figure

from .broker import SLOW_S, BenchBroker, running_broker
from .load import body_of, server
from .plan import Plan, median_of, spread_of
from .sections import figure_table, table
from .settle import settle
from .steady import Steady, post
from .variants import ours

RATE = 1_000
WARM_S = 2.0
BREAK_TO_LOAD_S = 0.2  # the moment in which the publisher meets the broken broker is measured too
FACTOR = 1.2
DISTURBED = 2.0  # where the yardstick's own rounds lie this far apart, the machine was busy and nothing is proved


@dataclass(frozen=True)
class State:
    """What happens to Kafka once the receiver is warm, and how it is mended for the next round."""

    name: str
    slow: bool = False
    breaks: Callable[[BenchBroker], None] | None = None
    mends: Callable[[BenchBroker], Awaitable[None] | None] | None = None


STATES = (
    State("up"),
    State("paused (SIGSTOP)", breaks=BenchBroker.pause, mends=BenchBroker.resume),
    State(f"slow (each answer {SLOW_S:g} s late)", slow=True),
    State("down (killed)", breaks=BenchBroker.stop, mends=BenchBroker.start),
)


async def run(plan: Plan) -> str:
    rounds: dict[str, list[Steady]] = {}
    async with running_broker(plan.folder / "kafka") as broker, broker.door():
        for number, state in plan.alternate(STATES):
            done = await _round(plan, broker, state, RATE, body_of(1_700))
            rounds.setdefault(state.name, []).append(done)
            print(f"round {number}, Kafka {state.name}: {_brief(done)}")
    up_ms = median_of(rounds["up"], _p99)
    proves = max(map(_p99, rounds["up"])) < DISTURBED * min(map(_p99, rounds["up"]))
    figures = [
        Figure(
            f"p99, Kafka {name}, against up",
            f"<= {FACTOR:g} x",
            median_of(several, _p99) / up_ms,
            "x",
            median_of(several, _p99) <= FACTOR * up_ms and not any(done.failed for done in several) if proves else None,
        )
        for name, several in rounds.items()
        if name != "up"
    ]
    doubt = "" if proves else " **The machine was disturbed: the rounds with Kafka up differ too much to judge.**"
    said = (
        f"{RATE:,} requests/s, open loop, 1,700 bytes, 64 connections; Kafka breaks just before the load begins.{doubt}"
    )
    return f"{said}\n\n{_table(rounds)}\n\n{figure_table(figures)}"


async def run_usual_day(plan: Plan) -> str:
    rounds: dict[str, list[Steady]] = {}
    async with running_broker(plan.folder / "kafka") as broker, broker.door():
        for number, state in plan.alternate(STATES[:1]):
            done = await _round(plan, broker, state, 200, body_of(10_000))
            rounds.setdefault(state.name, []).append(done)
            print(f"round {number}: {_brief(done)}")
    p99_ms = median_of(rounds["up"], _p99)
    failed = sum(done.failed for done in rounds["up"])
    figures = [
        Figure("p99 at 200 requests/s of 10 KB, publishing", "<= 5 ms", p99_ms, "ms", p99_ms <= 5 and not failed)
    ]
    return f"200 requests/s, open loop, 10,000 bytes, 64 connections.\n\n{_table(rounds)}\n\n{figure_table(figures)}"


async def _round(plan: Plan, broker: BenchBroker, state: State, rate: float, body: bytes) -> Steady:
    """Warm a fresh receiver up, break Kafka, measure, mend Kafka."""
    kafka = broker.slow_servers if state.slow else broker.servers
    variant = ours("b", state.name, plan.new_folder(), kafka)
    settle()
    with server(variant.command, variant.environment, variant.port, plan.folder / "server.log"):
        await asyncio.to_thread(post, variant.url, body, rate, WARM_S)
        try:
            if state.breaks:
                state.breaks(broker)
                await asyncio.sleep(BREAK_TO_LOAD_S)
            done = await asyncio.to_thread(post, variant.url, body, rate, plan.seconds)
        finally:
            mending = state.mends(broker) if state.mends else None
            if mending is not None:
                await mending
    return done


def _table(rounds: dict[str, list[Steady]]) -> str:
    columns = ("Kafka", "p50 ms", "p99 ms (min - max)", "p99.9 ms", "not 200", "generator late, p99 ms")
    return table(
        columns,
        [
            (
                name,
                f"{median_of(several, lambda done: done.percentile_ms(50)):.2f}",
                spread_of(several, _p99, ".2f"),
                f"{median_of(several, lambda done: done.percentile_ms(99.9)):.2f}",
                str(sum(done.failed for done in several)),
                f"{median_of(several, lambda done: done.late_p99_ms):.2f}",
            )
            for name, several in rounds.items()
        ],
    )


def _p99(done: Steady) -> float:
    return done.percentile_ms(99)


def _brief(done: Steady) -> str:
    return f"p50 {done.percentile_ms(50):.2f} ms, p99 {_p99(done):.2f} ms, {done.failed} not 200"
