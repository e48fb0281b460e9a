"""docs/benchmark-receiver-more.md: each part of the benchmark writes its own section, and leaves the others alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.consumers.figure import Figure

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "benchmark-receiver-more.md"
INTRODUCTION = (
    "# The receiver, measured further\n\n"
    'Made by `make bench-receiver-more ARGS="PART --write"`, a section for each part, each with the conditions\n'
    "of its own run; nothing here is typed by hand. The main comparison is in\n"
    "[benchmark-receiver.md](benchmark-receiver.md).\n"
)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows))


def figure_table(figures: Sequence[Figure]) -> str:
    verdict = {True: "yes", False: "**no**", None: ""}
    rows = [(one.name, one.target, f"{_number(one.reached)} {one.unit}".strip(), verdict[one.ok]) for one in figures]
    return table(("figure", "target", "reached", "yes/no"), rows)


def write(heading: str, text: str, order: Sequence[str], page: Path = PAGE) -> None:
    """Put this section in the place of its predecessor; `order` names all headings."""
    old = page.read_text().split("\n## ")[1:] if page.exists() else []
    sections = dict(section.split("\n", 1) for section in old) | {heading: f"\n{text.strip()}\n"}
    kept = [f"\n## {name}\n{sections[name]}" for name in order if name in sections]
    page.write_text(INTRODUCTION + "".join(part.rstrip() + "\n" for part in kept))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"
