"""`make bench-receiver`: our receiver beside its yardsticks, in one run, in alternating rounds.

One core for the server under test; the other for wrk and the broker, in every variant. Each round is a fresh process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import subprocess
import tempfile
from dataclasses import asdict, fields
from pathlib import Path
from statistics import median

from ops.standalone import jars

from . import report
from .broker import count, running_broker
from .load import LOAD_CPUS, Round, body_of, fire, server
from .settle import settle
from .variants import Variant, bare, go_peer, ours, twin, usual

PUBLISHED_S = 2.0  # what (c) has to have published, that long after the last request


def main() -> None:
    options = _options()
    os.sched_setaffinity(0, LOAD_CPUS)  # inherited by the broker and by wrk; each server is moved to its own core
    with tempfile.TemporaryDirectory(prefix="dial-results-bench-") as folder:
        asyncio.run(_run(options, Path(folder)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-receiver", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each variant (5)")
    parser.add_argument("--seconds", type=float, default=5, help="length of a round (5)")
    parser.add_argument("--connections", type=int, nargs="+", default=[64, 256], help="connections (64 256)")
    parser.add_argument("--only", default="abcdef", help="letters of the variants (abcdef)")
    parser.add_argument("--write", action="store_true", help="write the table and the plot into docs/")
    return parser.parse_args()


async def _run(options: argparse.Namespace, folder: Path) -> None:
    results = []
    async with running_broker(folder / "kafka") as broker:
        for connections in options.connections:
            results += await _alternate(options, connections, broker.servers, folder / str(connections))
    report.show(results, _conditions(options))
    if options.write:
        report.write(results, _conditions(options))


async def _alternate(
    options: argparse.Namespace, connections: int, kafka: str, folder: Path
) -> list[dict[str, object]]:
    """Run all variants in turn, round after round, so that a slow minute of the machine hits them all."""
    folder.mkdir()
    body = folder / "body.json"
    body.write_bytes(body_of(1_700))
    rounds: dict[str, list[Round]] = {}
    titles: dict[str, str] = {}
    late: dict[str, int] = {}
    for number in range(options.rounds):
        for variant in _variants(options.only, kafka, folder / f"round-{number}"):
            before = await count(kafka, variant.topic)
            settle()
            with server(variant.command, variant.environment, variant.port, folder / "server.log") as process:
                done = await asyncio.to_thread(fire, process, variant.url, body, connections, options.seconds)
                if variant.letter == "c":
                    await asyncio.sleep(PUBLISHED_S)
                    late["c"] = late.get("c", 0) + max(
                        0, done.all_requests - (await count(kafka, variant.topic) - before)
                    )
            titles[variant.letter] = variant.title
            rounds.setdefault(variant.letter, []).append(done)
            speed = f"{done.rps:,.0f}/s, p99 {done.p99_ms:.1f} ms"
            print(f"{connections} connections, round {number + 1}, ({variant.letter}) {speed}")
    return [
        {
            "letter": letter,
            "title": titles[letter],
            "connections": connections,
            "late": late.get(letter, 0),
            "spread_rps": [min(done.rps for done in several), max(done.rps for done in several)],
            **{field.name: median(getattr(done, field.name) for done in several) for field in fields(Round)},
            "rounds": [asdict(done) for done in several],
        }
        for letter, several in sorted(rounds.items())
    ]


def _variants(letters: str, kafka: str, folder: Path) -> list[Variant]:
    folder.mkdir()
    made = {
        "a": bare,
        "b": lambda: ours("b", "ours, acknowledging (fsynced)", folder / "b", None),
        "c": lambda: ours("c", "ours, acknowledging and publishing", folder / "c", kafka),
        "d": lambda: usual(kafka),
        "e": lambda: go_peer(kafka, folder.parent),
        "f": lambda: twin(folder / "f"),
    }
    return [variant for letter in letters if (variant := made[letter]()) is not None]


def _conditions(options: argparse.Namespace) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    return (
        f"{os.cpu_count()} shared cores, {platform.platform(terse=True)}, Python {platform.python_version()}, "
        f"Kafka {jars.KAFKA_VERSION} on the load generator's core, {options.rounds} alternating rounds of "
        f"{options.seconds:g} s, body 1,700 bytes, fsync on, commit {commit.strip() or 'unknown'}"
    )


if __name__ == "__main__":
    main()
