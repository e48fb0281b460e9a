"""One round: a fresh server on one core, wrk on the other, and what the operating system says of the server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .watch import cpu_s, peak_rss_mb

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SERVER_CPUS, LOAD_CPUS = {0}, {1}
READY_S = 20
QUIET_S = 0.4  # a server, with the processes that it starts, is up once it computes for less than a tenth of this


@dataclass(frozen=True)
class Round:
    """What came out of one round. `cpu_us` is the server's processor time for one request, that of its children too."""

    rps: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    cpu_us: float
    rss_mb: float
    requests: int
    not_200: int
    all_requests: int  # the warm-up's too: what must be in the topic


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(
    command: Sequence[str],
    environment: Mapping[str, str],
    port: int,
    log: Path,
    cpus: Collection[int] = SERVER_CPUS,
) -> Iterator[subprocess.Popen]:
    """Run a server on its core, from listening to stopped."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, cpus)), *command],
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
        )
    try:
        _wait_for(port, process, log)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(port: int, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"server did not listen within {READY_S} s:\n{log.read_text()[-2000:]}")


def _wait_until_quiet(process: subprocess.Popen) -> None:
    """Wait for what is still importing: its processor time is no request's."""
    deadline = time.monotonic() + READY_S
    before_s = -1.0
    while time.monotonic() < deadline and (spent_s := cpu_s(process.pid)) - before_s > QUIET_S / 10:
        before_s = spent_s
        time.sleep(QUIET_S)


def fire(process: subprocess.Popen, url: str, body: Path, connections: int, seconds: float) -> Round:
    """Post for a while and account for it."""
    _wait_until_quiet(process)  # here, not in `server`: what drains a backlog is quiet when there is nothing to see
    warm = _wrk(url, body, connections, 1)  # warm: pools, caches, connections
    cpu_before = cpu_s(process.pid)
    answer = _wrk(url, body, connections, seconds)
    spent_s = cpu_s(process.pid) - cpu_before
    return Round(
        rps=answer["requests"] / answer["seconds"],
        p50_ms=answer["p50_ms"],
        p99_ms=answer["p99_ms"],
        p999_ms=answer["p999_ms"],
        cpu_us=spent_s * 1e6 / max(1, answer["requests"]),
        rss_mb=peak_rss_mb(process.pid),
        requests=int(answer["requests"]),
        not_200=int(answer["not_200"] + answer["socket_errors"]),
        all_requests=int(warm["requests"] + answer["requests"]),
    )


def _wrk(url: str, body: Path, connections: int, seconds: float) -> dict[str, float]:
    wrk = shutil.which("wrk") or ""
    cpus = ",".join(map(str, LOAD_CPUS))
    command = [
        "taskset",
        "-c",
        cpus,
        wrk,
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "-s",
        str(HERE / "post.lua"),
        url,
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "BODY_FILE": str(body)},
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 30,
    )
    return dict(json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{"))))


RECORD_ID = b"55667448"  # of `body_of`


def with_record(body: bytes, number: int) -> bytes:
    """Return the body with a record id of its own, of the same length: no zeros in front, they are no JSON."""
    return body.replace(RECORD_ID, b"%d" % (10_000_000 + number % 90_000_000), 1)


def body_of(size_bytes: int) -> bytes:
    """Return a callback as Blu posts it, padded to this size."""
    record = {
        "id": 55667448,
        "name": "Made Up",
        "mobile": "0177****3990",
        "extVars": json.dumps({"uniqueId": "u-1", "orderId": "o-2"}),
        "callVars": json.dumps({"ClientName": "Made Up", "OverDueDays": 12}),
        "conclusion": "HPTP",
        "callTime": "2026-11-24 10:00:00",
        "duration": 61.5,
        "slots": [{"name": "payTime", "value": ["2026-11-25 07:00:00", "2026-11-25 12:00:00"]}],
    }
    bare = len(json.dumps({"taskId": 66635573, "records": [record | {"scripts": ""}]}))
    filled = record | {"scripts": "x" * max(0, size_bytes - bare)}
    return json.dumps({"taskId": 66635573, "records": [filled]}).encode()
