"""`make bench-receiver-more ARGS=PART`: how the receiver's cost grows, and what Kafka's state does to it.

Each PART is bounded in time and writes a section of docs/benchmark-receiver-more.md with --write.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from ops.standalone import jars

from . import backlogged, growth, outages, sections
from .load import LOAD_CPUS, SERVER_CPUS
from .plan import Plan


@dataclass(frozen=True)
class Part:
    heading: str
    run: Callable[[Plan], Awaitable[str]]
    rounds: int
    seconds: float


PARTS = {
    "growth": Part("How cost grows", growth.run, 2, 2),
    "outages": Part("Acknowledging whatever Kafka does", outages.run, 3, 5),
    "quiet": Part("A usual day: 200 requests/s of 10 KB", outages.run_usual_day, 3, 8),
    "drain": Part("Draining a backlog under load", backlogged.run_drain, 3, 8),
    "memory": Part("A million callbacks waiting", backlogged.run_memory, 2, 8),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-receiver-more", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--rounds", type=int, help="alternating rounds")
    parser.add_argument("--seconds", type=float, help="length of a round")
    parser.add_argument("--backlog", type=int, help="callbacks that wait (drain 300,000; else 1,000,000)")
    parser.add_argument("--write", action="store_true", help="write the section into docs/")
    options = parser.parse_args()
    part = PARTS[options.part]
    os.sched_setaffinity(0, LOAD_CPUS)  # inherited by the broker; each server is moved to its own core
    with tempfile.TemporaryDirectory(prefix="dial-results-bench-") as folder:
        plan = Plan(
            Path(folder), options.rounds or part.rounds, options.seconds or part.seconds, options.backlog, options.write
        )
        text = asyncio.run(_run(part, plan))
    text = f"{text}\n\n{_conditions(plan)}"
    print(f"\n{text}")
    if options.write:
        sections.write(part.heading, text, [one.heading for one in PARTS.values()])


async def _run(part: Part, plan: Plan) -> str:
    return await part.run(plan)


def _conditions(plan: Plan) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    return (
        f"Conditions: {os.cpu_count()} shared cores, the server on core {_cores(SERVER_CPUS)}, broker and load "
        f"generator on core {_cores(LOAD_CPUS)} unless said otherwise, {platform.platform(terse=True)}, "
        f"Python {platform.python_version()}, Kafka {jars.KAFKA_VERSION}, {plan.rounds} alternating "
        f"rounds of {plan.seconds:g} s, medians, fsync on, commit {commit.strip() or 'unknown'}."
    )


def _cores(cpus: set[int]) -> str:
    return " and ".join(map(str, sorted(cpus)))


if __name__ == "__main__":
    main()
