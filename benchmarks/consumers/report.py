"""The table of all figures beside their targets, printed and as docs/benchmark-consumers.md."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ops.standalone import jars

from .figure import Figure

PAGE = Path(__file__).parents[2] / "docs" / "benchmark-consumers.md"
_HEAD = """\
# The consumers, measured

Made by `make bench-consumers ARGS=--write`; nothing here is typed by hand.
"""
_HELD = {True: "yes", False: "**no**", None: ""}


def table(figures: list[Figure]) -> str:
    """Lay the figures out in Markdown."""
    rows = ["| figure | target | reached | held | conditions |", "|---|---|---|---|---|"]
    rows += [
        f"| {one.name} | {one.target} | {number(one.reached)} {one.unit} | {_HELD[one.ok]} | {one.conditions} |"
        for one in figures
    ]
    return "\n".join(rows)


def number(value: float) -> str:
    """Write a figure with no more digits than it is good for."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write(measured: dict[str, list[Figure]], scale: float, order: Sequence[str]) -> None:
    """Write the page: a chapter a sink, with its own conditions; chapters that were not measured now stay."""
    chapters = _chapters(PAGE.read_text()) if PAGE.exists() else {}
    chapters |= {name: f"{table(figures)}\n\n{conditions(scale)}" for name, figures in measured.items()}
    parts = [f"## {name}\n\n{chapters[name]}\n" for name in order if name in chapters]
    PAGE.write_text("\n".join([_HEAD, *parts]))


def _chapters(text: str) -> dict[str, str]:
    parts = (part.partition("\n") for part in text.split("\n## ")[1:])
    return {name: rest.strip() for name, _, rest in parts}


def conditions(scale: float) -> str:
    """Say where and how this run was made."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} shared cores, {memory_gb:.0f} GB, {platform.platform(terse=True)}, Python "
        f"{platform.python_version()}, Kafka {jars.KAFKA_VERSION} on the same machine, one consumer process, fsync on, "
        f"load average {os.getloadavg()[0]:.1f} at the end, scale {scale:g} of the full number of events, commit "
        f"{commit.strip() or 'unknown'}. Backlogs stand in Kafka before the consumer has its partitions; the clock "
        "begins then and ends when the last event is durable and its offset committed."
    )
