"""Does the time of a 404 tell how near a guess was? Interleaved requests of equal length, compared by their medians."""

from __future__ import annotations

import math
import os
import random
import socket
import statistics
import time
from pathlib import Path

import pytest

from .receiver import Receiver

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

TRIES = int(os.environ.get("FAULTS_TRIES", "100000"))
NOISE_US = 0.5  # hashing and comparing take twice that; what a network adds varies by a hundred times that


def request(path: str, length: int, headers: str = "") -> bytes:
    """Return a request of this length, whatever its path, so that the same number of bytes is read."""
    start = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n{headers}X-Pad: "
    return start.encode() + b"p" * (length - len(start) - 6) + b"\r\n\r\n{}"


def ask(connection: socket.socket, data: bytes) -> float:
    """Return how long the whole 404 took, microseconds."""
    began = time.perf_counter_ns()
    connection.sendall(data)
    answer = connection.recv(4_096)
    took = time.perf_counter_ns() - began
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b"}")
    return took / 1_000


def rank_z(one: list[float], other: list[float]) -> float:
    """Return the Mann-Whitney statistic in standard deviations (ties are rare among nanoseconds)."""
    ranked = sorted([(value, 0) for value in one] + [(value, 1) for value in other])
    ranks = sum(rank for rank, (_, which) in enumerate(ranked, 1) if which == 0)
    n, m = len(one), len(other)
    mean, deviation = n * (n + m + 1) / 2, math.sqrt(n * m * (n + m + 1) / 12)
    return (ranks - mean) / deviation


def trimmed(values: list[float]) -> list[float]:
    """Drop the slowest tenth: the machine's doing."""
    return sorted(values)[: len(values) * 9 // 10]


def welch_t(one: list[float], other: list[float]) -> float:
    error = math.sqrt(statistics.variance(one) / len(one) + statistics.variance(other) / len(other))
    return (statistics.fmean(one) - statistics.fmean(other)) / error


@pytest.mark.parametrize("lane", ["fast", "ordinary"])
def test_a_wrong_token_takes_as_long_as_none(tmp_path: Path, lane: str) -> None:
    receiver = Receiver(tmp_path, extra={"RECEIVER_FAST_LANE": str(lane == "fast")})
    wrong = "".join(random.Random(4).choices("abcdefghijklmnopqrstuvwxyz", k=len(receiver.token)))
    paths = {
        "wrong": f"/callbacks/{wrong}",
        "wrong again": f"/callbacks/{wrong[::-1]}",  # what two equal things differ by: the noise
        "all but the last right": f"/callbacks/{receiver.token[:-1]}{'A' if receiver.token[-1] != 'A' else 'B'}",
        "no token": "/callbacks/",
        "another path": "/" + wrong,
    }
    requests = {name: request(path, 400) for name, path in paths.items()}
    times: dict[str, list[float]] = {name: [] for name in paths}
    chance = random.Random(20261124)
    with receiver.running(), socket.create_connection(("127.0.0.1", receiver.port)) as connection:
        order = list(requests)
        for number in range(TRIES // len(paths) + 100):
            chance.shuffle(order)
            for name in order:
                took = ask(connection, requests[name])
                if number >= 100:  # the first ones warm up
                    times[name].append(took)
    base = times["wrong"]
    print(f"\n{lane} lane, {sum(map(len, times.values()))} tries; median {statistics.median(base):.1f} us")
    for name in list(paths)[1:]:
        difference = statistics.median(times[name]) - statistics.median(base)
        t = welch_t(trimmed(times[name]), trimmed(base))
        z = rank_z(times[name], base)
        print(f"{name}: median {difference:+.2f} us, Welch t of the fastest 90 % {t:+.1f}, Mann-Whitney z {z:+.1f}")
    for name in list(paths)[1:]:
        assert abs(statistics.median(times[name]) - statistics.median(base)) < NOISE_US, name
