"""A receiver under a steady legitimate load, and what stands beside it in each phase: nobody, attackers, busy ones."""

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.receiver.settle import settle
from benchmarks.receiver.watch import cpu_s

from .receiver import ROOT, Receiver

PHASE_S = 6.0
SETTLE_S = 1.0  # of each phase, not measured: the attackers start, or the last of them are cut off
UNWRITTEN_S = 1.0  # how long a phase waits for what others have left for the disk
RATE = 300.0


class Phase(NamedTuple):
    """When its measured part began and ended, the receiver's largest memory, what those beside it computed."""

    began: float
    ended: float
    largest_kb: int
    beside_share: float  # of a core
    receiver_share: float


class Sample(NamedTuple):
    """One legitimate callback."""

    at: float
    seconds: float
    status: str


def pinned(core: int) -> tuple[str, ...]:
    taskset = shutil.which("taskset")
    return (taskset, "-c", str(core)) if taskset and (os.cpu_count() or 1) > 1 else ()


@dataclass
class UnderAttack:
    """The running receiver, and the phases gone through so far."""

    receiver: Receiver
    pid: int
    samples_file: Path
    phases: dict[str, list[Phase]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def calm(self) -> None:
        self._phase("calm", None)

    def attacked(self, *attacks: str, name: str = "hostile") -> None:
        """Go through a phase with these attacks, or with all of them."""
        arguments = [str(self.receiver.port), self.receiver.token, str(PHASE_S), *attacks]
        with _beside("tests.faults.hostile", *arguments) as process:
            self._phase(name, process.pid)
            output, _ = process.communicate(timeout=30)
        self.counts.update(json.loads(output))

    def busy(self, like: str = "hostile") -> None:
        """Go through a phase beside somebody who computes as much as the attackers did and attacks nobody."""
        share = statistics.mean(phase.beside_share for phase in self.phases[like])
        with _beside("tests.faults.busy", str(PHASE_S), str(share)) as process:
            self._phase("busy", process.pid)

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.receiver.admin_port}/metrics", timeout=10) as answer:
            found = re.search(rf"^dial_results_receiver_{name} (\S+)$", answer.read().decode(), re.MULTILINE)
        assert found, name
        return float(found[1])

    def samples(self) -> list[Sample]:
        """Return every legitimate callback but the last, whose line may not be whole."""
        lines = (line.split() for line in self.samples_file.read_text().splitlines()[:-1])
        return [Sample(float(at), float(seconds), status) for at, seconds, status in lines]

    def _phase(self, name: str, beside: int | None) -> None:
        time.sleep(SETTLE_S)
        began, largest_kb = time.monotonic(), 0
        ends = began + PHASE_S - SETTLE_S
        spent_before_s = [cpu_s(pid) if pid else 0.0 for pid in (beside, self.pid)]
        while time.monotonic() < ends:
            largest_kb = max(largest_kb, self._rss_kb())
            time.sleep(0.05)
        shares = [
            (cpu_s(pid) - before_s if pid else 0.0) / (ends - began)
            for pid, before_s in zip((beside, self.pid), spent_before_s, strict=True)
        ]
        self.phases.setdefault(name, []).append(Phase(began, ends, largest_kb, *shares))

    def _rss_kb(self) -> int:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return int(found[1])


@contextmanager
def under_steady_load(folder: Path) -> Iterator[UnderAttack]:
    """Run a receiver on the first core, and its legitimate sender on the other."""
    receiver = Receiver(folder, prefix=pinned(0))
    output = folder / "samples"
    arguments = [str(receiver.port), receiver.token, str(RATE)]
    with (
        receiver.running() as process,
        output.open("wb") as file,
        _beside("tests.faults.steady", *arguments, stdout=file.fileno()) as sender,
    ):
        yield UnderAttack(receiver, process.pid, output)
        assert sender.poll() is None, "the steady sender was broken off"
        sender.terminate()


@contextmanager
def _beside(module: str, *arguments: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[bytes]]:
    settle(UNWRITTEN_S)
    command = [*pinned(1), sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=stdout) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def p99s_ms(samples: Sequence[Sample], phases: Sequence[Phase]) -> list[float]:
    """Return each phase's own."""
    return [
        statistics.quantiles([one.seconds for one in samples if phase.began <= one.at < phase.ended], n=100)[98] * 1_000
        for phase in phases
    ]
