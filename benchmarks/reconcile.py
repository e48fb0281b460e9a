"""`make bench-reconcile`: 10,000 records of one task compared, 100 of them missing and published, page by page of 10.

The command runs as an operator runs it, a process of its own, against the simulator's query over HTTP, a real
PostgreSQL and a real Kafka: once at its polite rate, once as fast as it goes. Target of issue D: at most 60 s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from benchmarks.consumers import machine
from consumers.sink import Delivery
from consumers.sinks import storage
from ops.blu.bodies import Callback, callbacks
from ops.blu.queries import APP_ID, Queries
from schemas.blu import BluRecord
from schemas.event import DialResult, dial_result
from schemas.topics import DIAL_RESULTS

TARGET_S = 60
KEY, TASK, MISSING = "made-up-key", "77", 100
RATES = ("25", "1000")


def main() -> int:
    """Measure; return 1 where the target is missed at the polite rate, which is the default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reconcile", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="records of the task")
    count = parser.parse_args().count
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    took_s = asyncio.run(measure(count))
    for rate, seconds in took_s.items():
        print(f"{count:,} records at {rate} calls/s, 10 a page: {seconds:.1f} s (target <= {TARGET_S} s)")
    return int(took_s[RATES[0]] > TARGET_S)


async def measure(count: int) -> dict[str, float]:
    """Return how long each rate took, from the command's start to its end."""
    took_s = {}
    for rate in RATES:
        async with machine.kafka("storage") as kafka, machine.postgres() as dsn:
            queries, calls = Queries(KEY), distinct(count)
            for callback in calls:
                queries.add(callback)
            await store(dsn, [event(callback) for callback in calls[MISSING:]])
            async with queries.serving() as url:
                took_s[rate] = await reconcile(rate, url, dsn, kafka, count)
    return took_s


def distinct(count: int) -> list[Callback]:
    """Make calls of one task, no contact twice."""
    made = callbacks(5, date(2026, 11, 24), ZoneInfo("UTC"), 2 * count)
    by_contact = {callback.record_id: replace(callback, task_id=TASK) for callback in made}
    return list(by_contact.values())[:count]


def event(callback: Callback) -> DialResult:
    record = BluRecord(0, callback.record_id, callback.canonical)
    return dial_result("demo", TASK, record, time.time_ns() // 1_000_000)


async def store(dsn: str, events: list[DialResult]) -> None:
    async with storage.connect(storage.Settings(dsn=dsn), {}) as sink:
        await sink.write([Delivery(one, DIAL_RESULTS, 0, offset) for offset, one in enumerate(events)])


async def reconcile(rate: str, url: str, dsn: str, kafka: str, count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "merchants.toml"
        file.write_text(f'[demo.query]\nurl = "{url}"\napp_id = "{APP_ID}"\napp_key = "{KEY}"\n')
        given = {"KAFKA_BOOTSTRAP_SERVERS": kafka, "STORAGE_DSN": dsn, "RECEIVER_MERCHANTS_FILE": str(file)}
        words = ("-m", "ops", "reconcile", "--merchant", "demo", "--task", TASK, "--rate", rate, "--yes", "--json")
        pipe = asyncio.subprocess.PIPE
        begun = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, env=os.environ | given, stdout=pipe, stderr=pipe
        )
        out, err = await process.communicate()
        took_s = time.monotonic() - begun
    assert process.returncode == 0, err.decode()
    said = json.loads(out)
    assert (said["same"], said["published"]) == (count - MISSING, MISSING), said
    return took_s


if __name__ == "__main__":
    sys.exit(main())
