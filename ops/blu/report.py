"""What a simulation says at its end: a table for people, JSON for scripts. Ids only, never what a body says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from .compare import Verdict
    from .settle import Look
    from .simulator import Simulator

_IDS_SHOWN = 10
_FAULTS = ("missing", "extra", "doubled")


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return the nearest-rank quantile of ascending values, None of none."""
    return ordered[max(0, -(-round(share * 1_000) * len(ordered) // 1_000) - 1)] if ordered else None


def posted(simulator: Simulator) -> dict[str, Any]:
    """Sum up the posting; latencies in milliseconds, from the request to the status line of its answer."""
    ordered = sorted(simulator.latencies_s)
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    latencies = {name: quantile(ordered, share) for name, share in shares.items()}
    return {
        "posted": simulator.started,
        "delivered": simulator.delivered,
        "given_up": simulator.given_up,
        "unheard_200s": simulator.repeated,
        "statuses": {str(status): count for status, count in sorted(simulator.statuses.items(), key=str)},
        "acknowledged_ms": {name: value and round(value * 1000, 2) for name, value in latencies.items()},
        "behind_rate_s": round(simulator.behind_s, 3),
    }


def compared(look: Look) -> dict[str, Any]:
    """Sum up a comparison, with every id that is wrong."""
    places = {verdict.place: _verdict(verdict) for verdict in look.verdicts}
    return {"good": look.good, "underway": look.underway, "places": places}


def _verdict(verdict: Verdict) -> dict[str, Any]:
    counts = {"expected": verdict.expected, "right": verdict.right, "away": verdict.away}
    return counts | {name: list(getattr(verdict, name)) for name in _FAULTS}


def show_posted(console: Console, summary: dict[str, Any]) -> None:
    """Print what was posted and how it was answered."""
    table = Table(title="Posted as Blu posts", show_header=False)
    statuses = ", ".join(f"{count} x {status}" for status, count in summary["statuses"].items())
    latencies = ", ".join(
        f"{name} {value} ms" for name, value in summary["acknowledged_ms"].items() if value is not None
    )
    table.add_row("results", f"{summary['posted']}")
    table.add_row("delivered", f"{summary['delivered']}")
    table.add_row("given up", f"{summary['given_up']}")
    table.add_row("200s that Blu did not hear", f"{summary['unheard_200s']}")
    table.add_row("answers", statuses or "none")
    table.add_row("acknowledged in", latencies or "-")
    table.add_row("behind the rate, at most", f"{summary['behind_rate_s']} s")
    console.print(table)


def show_compared(console: Console, look: Look) -> None:
    """Print what each place holds, and the first ids of what is wrong."""
    table = Table("place", "expected", "right", *_FAULTS, "", title="Promised, and found")
    for verdict in look.verdicts:
        counts = (verdict.expected, verdict.right, *(len(getattr(verdict, fault)) for fault in _FAULTS))
        word = verdict.away or ("[green]good[/]" if verdict.good else "[red]wrong[/]")
        table.add_row(verdict.place, *(f"{count}" for count in counts), word)
    console.print(table)
    for verdict in look.verdicts:
        for fault in _FAULTS:
            _show_ids(console, f"{verdict.place}, {fault}", getattr(verdict, fault))


def _show_ids(console: Console, heading: str, ids: Sequence[str]) -> None:
    if ids:
        more = f" and {len(ids) - _IDS_SHOWN} more (--json names all)" if len(ids) > _IDS_SHOWN else ""
        console.print(f"{heading}: {', '.join(ids[:_IDS_SHOWN])}{more}", markup=False, soft_wrap=True)


def show_end(console: Console, summary: dict[str, Any], *, good: bool) -> None:
    """Print the outcome in a sentence, and what to do with it."""
    console.print(_sentence(summary, good=good), markup=False, soft_wrap=True)


def _sentence(summary: dict[str, Any], *, good: bool) -> str:
    again, compared = f"(--seed {summary['seed']})", summary["compared"]
    if summary["interrupted"]:
        return f"Interrupted: nothing is proven {again}."
    sentences = []
    if summary["given_up"]:
        sentences.append(f"Never answered 200 in 6 attempts, and given up by Blu: {summary['given_up']} {again}.")
    if compared is None:
        sentences.append(f"Nothing was compared {again}.")
    elif not compared["good"]:
        sentences.append(f"Promises were broken {again}; the ledger is {summary['ledger']}.")
    elif good:
        sentences.append(f"Every promise was kept: each result once, each contact in its newest state {again}.")
    if compared and compared["underway"] != 0:
        sentences.append("Something is still under way, or nobody could say: this may not be final.")
    return " ".join(sentences)
