"""Hostile HTTP beside a steady legitimate load: the load must hardly feel it.

Calm and hostile phases alternate; what is compared are medians over the phases, and beside them stands how far the calm
phases are apart from each other. Sender, attackers and receiver are processes of their own, the receiver with a
processor of its own where there are two.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .receiver import ROOT, Receiver

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "7"))
ATTACKS = os.environ.get("FAULTS_ATTACKS", "").split()
PHASE_S = 6.0
SETTLE_S = 1.0  # of each phase, not measured: the attackers start, or the last of them are cut off
RATE = 300.0

Sample = tuple[float, float, str]


def pinned(core: int) -> tuple[str, ...]:
    taskset = shutil.which("taskset")
    return (taskset, "-c", str(core)) if taskset and (os.cpu_count() or 1) > 1 else ()


class Watched:
    """A receiver process, and what it takes of the machine."""

    def __init__(self, receiver: Receiver, pid: int) -> None:
        self._receiver, self._pid = receiver, pid

    def rss_kb(self) -> int:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self._pid}/status").read_text())
        assert found
        return int(found[1])

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._receiver.admin_port}/metrics", timeout=10) as answer:
            found = re.search(rf"^dial_results_receiver_{name} (\S+)$", answer.read().decode(), re.MULTILINE)
        assert found, name
        return float(found[1])

    def phase(self) -> tuple[float, float, int]:
        """Wait for a phase to pass; return when its measured part began and ended, and the largest memory, KB."""
        began = time.monotonic() + SETTLE_S
        ends, largest = began - SETTLE_S + PHASE_S, 0
        while time.monotonic() < ends:
            largest = max(largest, self.rss_kb())
            time.sleep(0.05)
        return began, ends, largest


@contextmanager
def steady_load(receiver: Receiver, output: Path) -> Iterator[None]:
    command = [*pinned(1), sys.executable, "-m", "tests.faults.steady", str(receiver.port), receiver.token, str(RATE)]
    with output.open("wb") as file, subprocess.Popen(command, cwd=ROOT, stdout=file) as process:
        try:
            yield
            assert process.poll() is None, "the steady sender was broken off"
        finally:
            process.terminate()


@contextmanager
def attacked(receiver: Receiver, counts: Counter[str]) -> Iterator[None]:
    arguments = [str(receiver.port), receiver.token, str(PHASE_S), *ATTACKS]
    command = [*pinned(1), sys.executable, "-m", "tests.faults.hostile", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        yield
        output, _ = process.communicate(timeout=30)
    counts.update(json.loads(output))


def p99_ms(samples: list[Sample], began: float, ended: float) -> float:
    within = [seconds for at, seconds, _ in samples if began <= at < ended]
    return statistics.quantiles(within, n=100)[98] * 1_000


def test_hostile_http_beside_a_steady_load(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path, prefix=pinned(0))
    calm: list[tuple[float, float, int]] = []
    hostile: list[tuple[float, float, int]] = []
    counts: Counter[str] = Counter()
    with receiver.running() as process, steady_load(receiver, tmp_path / "samples"):
        watched = Watched(receiver, process.pid)
        watched.phase()
        busy_s = late_s = 0.0
        for number in range(ROUNDS):
            calm.append(watched.phase())
            if number == 0:
                late_calm_s = watched.metric("largest_stall_seconds")
            with attacked(receiver, counts):
                hostile.append(watched.phase())
            late_s = max(late_s, watched.metric("largest_stall_seconds"))
            busy_s = max(busy_s, watched.metric("largest_busy_stall_seconds"))
        crowded_out = watched.metric("connections_crowded_out_total")
    lines = (line.split() for line in (tmp_path / "samples").read_text().splitlines()[:-1])
    samples = [(float(at), float(seconds), status) for at, seconds, status in lines]
    calm_ms = [p99_ms(samples, began, ended) for began, ended, _ in calm]
    hostile_ms = [p99_ms(samples, began, ended) for began, ended, _ in hostile]
    before, during = statistics.median(calm_ms), statistics.median(hostile_ms)
    grown_kb = max(kb for *_, kb in hostile) - calm[0][2]
    print(
        f"\nhostile HTTP, {ROUNDS} rounds: {dict(sorted(counts.items()))}, crowded out {crowded_out:.0f}\n"
        f"legitimate: {len(samples)} callbacks at {RATE:.0f}/s, {Counter(status for *_, status in samples)}\n"
        f"p99 calm {before:.2f} ms (phases {min(calm_ms):.2f} to {max(calm_ms):.2f}), "
        f"hostile {during:.2f} ms (phases {min(hostile_ms):.2f} to {max(hostile_ms):.2f}), "
        f"change {during / before - 1:+.0%}; "
        f"memory {grown_kb / 1024:+.1f} MB; largest stall computing {busy_s * 1000:.0f} ms, "
        f"by the clock, with all that the machine does, {late_s * 1000:.0f} ms (calm {late_calm_s * 1000:.0f} ms)",
        flush=True,
    )
    assert {status for *_, status in samples} == {"200"}
    assert not [name for name in counts if name.startswith("smuggling 2")]
    assert b"smuggled" not in b"".join(path.read_bytes() for path in receiver.journal.glob("**/*") if path.is_file())
    assert during < before * 1.2
    assert grown_kb < 20 * 1024
    assert busy_s < 0.05
    _assert_each_was_tried(counts)


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
