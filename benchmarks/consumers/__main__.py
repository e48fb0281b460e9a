"""`make bench-consumers`: what issue C asks of each sink beside what it reaches, in one run.

A sink's figures come from `benchmarks/consumers/SINK.py`: `async def measure(scale: float) -> list[Figure]`.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import sys
from importlib.util import find_spec

from . import report
from .figure import Figure

SINKS = ("loop", "storage", "growth", "analytics", "crm")


def main() -> int:
    """Measure; return 1 where a target is missed."""
    asked = _arguments()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a broker that starts is not there yet
    chapters: dict[str, list[Figure]] = {}
    for name in asked.sinks or SINKS:
        if find_spec(f"{__package__}.{name}") is None:
            print(f"SKIPPED: {name}: there is no benchmarks/consumers/{name}.py", file=sys.stderr)
            continue
        print(f"measuring {name} ...", file=sys.stderr)
        chapters[name] = asyncio.run(importlib.import_module(f"{__package__}.{name}").measure(asked.scale))
        print(f"\n{name}\n\n{report.table(chapters[name])}\n")
    print(report.conditions(asked.scale))
    if asked.write:
        report.write(chapters, asked.scale, SINKS)
    return int(any(one.ok is False for figures in chapters.values() for one in figures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.consumers", description=__doc__)
    parser.add_argument("sinks", nargs="*", metavar="SINK", help=f"some of {', '.join(SINKS)}; all by default")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of events (1.0)")
    parser.add_argument(
        "--write", action="store_true", help="write docs/benchmark-consumers.md; sinks left out keep their chapter"
    )
    asked = parser.parse_args()
    if strangers := set(asked.sinks) - set(SINKS):
        parser.error(f"there is no {', '.join(sorted(strangers))}; there are: {', '.join(SINKS)}")
    return asked


if __name__ == "__main__":
    sys.exit(main())
