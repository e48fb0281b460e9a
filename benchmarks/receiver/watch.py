"""What the operating system and the admin port say of a server, its child processes included."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_GONE = (FileNotFoundError, ProcessLookupError)


def tree(pid: int) -> Iterator[int]:
    """Yield the process and all that it has started."""
    yield pid
    with suppress(*_GONE):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from tree(int(child))


def cpu_s(pid: int) -> float:
    """Return the processor time so far; that of children that have ended counts with their parent."""
    ticks = 0
    for one in tree(pid):
        with suppress(*_GONE):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Return what is resident now; pages that processes share count once for each: an upper bound."""
    return _memory_mb(pid, "VmRSS")


def peak_rss_mb(pid: int) -> float:
    """Return the sum of the processes' peaks, an upper bound too."""
    return _memory_mb(pid, "VmHWM")


def _memory_mb(pid: int, name: str) -> float:
    total = 0
    for one in tree(pid):
        with suppress(*_GONE):
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith(name))
    return total / 1024


def wait_ready(admin_port: int, limit_s: float) -> float:
    """Return after how many seconds `/readyz` says yes. Raises TimeoutError."""
    began = time.monotonic()
    while time.monotonic() - began < limit_s:
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/readyz", timeout=1).close()
            return time.monotonic() - began
        time.sleep(0.005)
    raise TimeoutError(f"not ready within {limit_s:g} s")


def metrics(admin_port: int) -> Counter[str]:
    """Return each metric by its name, summed over its labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    found: Counter[str] = Counter()
    for line in lines:
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            found[name.partition("{")[0]] += float(value)  # type: ignore[assignment]
    return found
