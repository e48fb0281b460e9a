"""Hostile HTTP beside a steady legitimate load: the load must hardly feel it.

Calm, hostile and busy phases alternate; what is compared are medians over the phases. In a busy phase somebody computes
as much as the attackers do and attacks nobody: attackers, sender and receiver share one machine here, and what the load
feels of that is not the receiver's. The target holds against the busy phases, and the calm ones are printed beside it.
"""

from __future__ import annotations

import os
import statistics
from collections import Counter
from pathlib import Path

import pytest

from .under_attack import RATE, UnderAttack, p99s_ms, under_steady_load

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "7"))
ATTACKS = os.environ.get("FAULTS_ATTACKS", "").split()


def test_hostile_http_beside_a_steady_load(tmp_path: Path) -> None:
    busy_s = late_s = 0.0
    with under_steady_load(tmp_path) as run:
        run.calm()
        run.phases.clear()  # that was to warm up
        for _ in range(ROUNDS):
            run.calm()
            run.attacked(*ATTACKS)
            late_s = max(late_s, run.metric("largest_stall_seconds"))
            busy_s = max(busy_s, run.metric("largest_busy_stall_seconds"))
            run.busy()
        crowded_out = run.metric("connections_crowded_out_total")
    samples = run.samples()
    grown_kb = max(phase.largest_kb for phase in run.phases["hostile"]) - run.phases["calm"][0].largest_kb
    p99_ms = {name: p99s_ms(samples, phases) for name, phases in run.phases.items()}
    print(
        f"\nhostile HTTP, {ROUNDS} rounds: {dict(sorted(run.counts.items()))}, crowded out {crowded_out:.0f}\n"
        f"legitimate: {len(samples)} callbacks at {RATE:.0f}/s, {Counter(one.status for one in samples)}\n"
        f"{_told(run, p99_ms)}\nmemory {grown_kb / 1024:+.1f} MB; largest stall computing {busy_s * 1000:.0f} ms, "
        f"by the clock, with all that the machine does, {late_s * 1000:.0f} ms",
        flush=True,
    )
    assert {one.status for one in samples} == {"200"}
    assert not [name for name in run.counts if name.startswith("smuggling 2")]
    journal = run.receiver.journal.glob("**/*")
    assert b"smuggled" not in b"".join(path.read_bytes() for path in journal if path.is_file())
    assert statistics.median(p99_ms["hostile"]) < statistics.median(p99_ms["busy"]) * 1.2
    assert grown_kb < 20 * 1024
    assert busy_s < 0.05
    _assert_each_was_tried(run.counts)


def _told(run: UnderAttack, p99_ms: dict[str, list[float]]) -> str:
    median_ms = {name: statistics.median(several) for name, several in p99_ms.items()}
    lines = []
    for name, several in p99_ms.items():
        beside, own = (
            statistics.mean(getattr(phase, part) for phase in run.phases[name])
            for part in ("beside_share", "receiver_share")
        )
        changes = ", ".join(f"{median_ms[name] / median_ms[other] - 1:+.0%} on {other}" for other in ("calm", "busy"))
        lines.append(
            f"p99 {name} {median_ms[name]:.2f} ms (phases {min(several):.2f} to {max(several):.2f}), {changes}; "
            f"those beside it take {beside:.0%} of a core, the receiver {own:.0%}"
        )
    return "\n".join(lines)


def _assert_each_was_tried(counts: Counter[str]) -> None:
    expected = {
        "slowloris opened": 300,
        "slow body 408": 1,
        "10 GB declared 413": 1,
        "10 GB declared 404": 1,
        "gzip bomb 200": 1,
        "brackets 200": 1,
        "smuggling 400": 10,
        "headers long 400": 1,
        "headers many 400": 1,
        "headers endless 400": 1,
        "idle opened": 2_000,
    }
    assert not {name for name, least in expected.items() if counts[name] < least * (not ATTACKS)}
