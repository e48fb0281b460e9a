"""The disk before a round: what those measured before have left for the kernel to write is written first.

Kafka, and whatever else does not fsync, leaves some 250 MB a round in the page cache. The kernel writes them 30 s
later, all at once, into somebody else's round, and an `fdatasync` waits 70 to 150 ms for them
(docs/benchmark-receiver.md).
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

SETTLED_MB = 4.0
LIMIT_S = 10.0


def settle(limit_s: float = LIMIT_S) -> float:
    """Return what is still unwritten on this machine, MB, once it is little or the time is up, which is said."""
    deadline = time.monotonic() + limit_s
    os.sync()
    while (unwritten := unwritten_mb()) > SETTLED_MB:
        if time.monotonic() > deadline:
            print(f"the disk has not settled: {unwritten:.0f} MB are still to be written", file=sys.stderr)
            break
        time.sleep(0.05)
        os.sync()
    return unwritten


def unwritten_mb(meminfo: Path = Path("/proc/meminfo")) -> float:
    """Return what the kernel has still to write or is writing."""
    lines = (line.split() for line in meminfo.read_text().splitlines())
    return sum(int(line[1]) for line in lines if line[0] in ("Dirty:", "Writeback:")) / 1024
