from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Allocates in eight threads at once, then has glibc itself say how many heaps there are.
PROBE = """
import ctypes, sys, threading
from receiver.heap import one_heap
if sys.argv[1] == "one":
    assert one_heap()
barrier = threading.Barrier(8)
def allocate():
    kept = [bytes(2_000) for _ in range(100)]
    barrier.wait(10)
threads = [threading.Thread(target=allocate) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
ctypes.CDLL(None).malloc_stats()
"""


def heaps(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROBE, how], capture_output=True, text=True, check=True, timeout=30)
    return done.stderr.count("Arena ")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other heaps")
def test_threads_share_one_heap() -> None:
    assert heaps("one") == 1
    assert heaps("many") > 1
