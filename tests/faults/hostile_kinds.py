"""What each hostile kind costs by itself: `python -m tests.faults.hostile_kinds [ROUNDS]` prints a table.

Phases alternate: nobody, each kind alone, all of them, all but one, and somebody who computes as much as all.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from .hostile import ATTACKS
from .under_attack import UnderAttack, p99s_ms, under_steady_load

COLUMNS = ("beside the load", "p50 ms", "p90 ms", "p99 ms (phases)", "receiver's share of a core", "the others'")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    with tempfile.TemporaryDirectory(prefix="dial-results-hostile-") as folder, under_steady_load(Path(folder)) as run:
        for _ in range(rounds):
            _go_through(run)
        rows = table(run)
    print("\n".join(f"| {' | '.join(row)} |" for row in (COLUMNS, ["---"] * len(COLUMNS), *rows)))


def _go_through(run: UnderAttack) -> None:
    run.calm()
    for kind in ATTACKS:
        run.attacked(kind, name=kind)
    run.attacked(name="all")
    run.busy(like="all")
    for kind in ATTACKS:
        run.attacked(*(other for other in ATTACKS if other != kind), name=f"all but {kind}")


def table(run: UnderAttack) -> list[list[str]]:
    samples = run.samples()
    rows = []
    for name, phases in run.phases.items():
        took_ms = [one.seconds * 1_000 for one in samples for phase in phases if phase.began <= one.at < phase.ended]
        percentiles = statistics.quantiles(took_ms, n=100)
        own = p99s_ms(samples, phases)
        shares = [
            statistics.mean(getattr(phase, part) for phase in phases) for part in ("receiver_share", "beside_share")
        ]
        rows.append(
            [
                name.replace("_", " "),
                *(f"{percentiles[at - 1]:.2f}" for at in (50, 90)),
                f"{statistics.median(own):.2f} ({min(own):.2f} - {max(own):.2f})",
                *(f"{share:.0%}" for share in shares),
            ]
        )
    return rows


if __name__ == "__main__":
    main()
