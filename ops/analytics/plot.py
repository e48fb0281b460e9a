"""A report as a picture: PNG, SVG, or a page with picture and table. matplotlib comes with the extra `plots`."""

from __future__ import annotations

import io
from collections import defaultdict
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from .answer import Answer
    from .reports import Report

FORMATS = (".png", ".svg", ".html")
_TICKS = 24


def plot(report: Report, answer: Answer, file: Path) -> None:
    """Write the file, in the form that its ending names.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    figure = _figure(report, answer)
    if file.suffix == ".html":
        picture = io.StringIO()
        figure.savefig(picture, format="svg")
        file.write_text(_page(report, answer, picture.getvalue()), encoding="utf-8")
    else:
        figure.savefig(file, format=file.suffix[1:], dpi=150)


def _figure(report: Report, answer: Answer) -> Figure:
    from matplotlib.figure import Figure  # noqa: PLC0415  # heavy, and an extra

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot(title=report.title, ylabel=report.y)
    places, parts = _heights(report, answer)
    below = [0.0] * len(places)
    for part, heights in parts.items():
        values = [heights.get(place, 0.0) for place in places]
        axes.bar(places, values, bottom=below, label=part)
        below = [one + other for one, other in zip(below, values, strict=True)]
    if report.by:
        axes.legend(fontsize="small")
    axes.tick_params(axis="x", rotation=45 if report.by else 0)
    axes.set_xticks(range(0, len(places), max(1, len(places) // _TICKS)))
    return figure


def _heights(report: Report, answer: Answer) -> tuple[list[str], dict[str, dict[str, float]]]:
    """Return the places along x, and for each part the height at a place: rows of one place and part are added up."""
    if report.x not in answer.columns:
        row = answer.rows[0] if answer.rows else (0,) * len(answer.columns)
        return answer.columns, {report.y: {name: float(v or 0) for name, v in zip(answer.columns, row, strict=True)}}
    parts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    places: dict[str, None] = {}
    for row in answer.rows:
        named: dict[str, Any] = dict(zip(answer.columns, row, strict=True))
        place = str(named[report.x])
        places[place] = None
        parts[str(named[report.by]) if report.by else report.y][place] += float(named[report.y] or 0)
    return list(places), parts


def _page(report: Report, answer: Answer, svg: str) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in answer.columns)
    lines = ("".join(f"<td>{escape(str('' if v is None else v))}</td>" for v in row) for row in answer.rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(report.title)}</title>\n'
        "<style>body{font:14px sans-serif;margin:2em}td,th{padding:.2em .8em;text-align:right}</style>\n"
        f"{svg[svg.index('<svg') :]}\n<table><tr>{head}</tr>\n{body}</table></html>\n"
    )
