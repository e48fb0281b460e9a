from __future__ import annotations

import os
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
    barrier.wait(60)
threads = [threading.Thread(target=allocate) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
ctypes.CDLL(None).malloc_stats()
"""


def heaps(how: str) -> int:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", PROBE, how]
    done = subprocess.run(command, env=ours, capture_output=True, text=True, check=True, timeout=120)
    return done.stderr.count("Arena ")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other heaps")
def test_threads_share_one_heap() -> None:
    assert heaps("one") == 1
    assert heaps("many") > 1


def test_the_publishing_process_loads_nothing_of_what_reads_settings() -> None:
    """13 MB: it is handed what it needs."""
    code = "import sys, receiver.publishing.__main__; print('pydantic' in sys.modules, 'aiokafka' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["False", "True"]
