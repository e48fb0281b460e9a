"""`make bench-subscriber`: the kit beside the bare client's loop, in one run, in alternating rounds, on one core.

The broker has the other core. Each round is a fresh process and a fresh group that reads the whole topic from its first
record; the clock runs from the first batch to the last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from statistics import median
from typing import NamedTuple
from zoneinfo import ZoneInfo

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from ops.blu.bodies import callbacks
from ops.standalone import jars
from ops.standalone.kafka import LocalKafka
from ops.standalone.ports import free_ports
from schemas import topics, wire
from schemas.blu import decode_callback
from schemas.event import dial_result
from schemas.subscribe import subscribe

TOPIC = topics.DIAL_RESULTS
BATCH = 1_000
CORE, BROKERS_CORE = {0}, {1}
RECEIVED_MS = 1_795_490_055_926
VARIANTS = ("raw", "kit", "kit-record", "kit-fields")
MEANING = {
    "raw": "aiokafka `getmany` with the kit's settings, a commit a batch, nothing decoded",
    "kit": "the kit: typed events, each once, a commit a batch",
    "kit-record": "the same, and `event.record()` of every event: Blu's record decoded",
    "kit-fields": "the same with `fields=` three of Blu's fields, and their `record()`",
}


class Rate(NamedTuple):
    """Events in a second of the clock, and in a second of work: the two differ by what the core did for others."""

    clock: float
    work: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--round", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--servers", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a broker that starts refuses at first
    if options.round:
        print(json.dumps(asyncio.run(_round(options.round, options.servers, options.events))))
        return
    with tempfile.TemporaryDirectory(prefix="dial-results-bench-") as folder:
        asyncio.run(_run(options, Path(folder)))


async def _run(options: argparse.Namespace, folder: Path) -> None:
    os.sched_setaffinity(0, BROKERS_CORE)  # inherited by the broker; each round moves itself to the other core
    ports = free_ports(["broker", "controller"])
    kafka = LocalKafka(folder, ports["broker"], ports["controller"], jars.classpath())
    kafka.format()
    with (folder / "kafka.log").open("wb") as log:
        broker = subprocess.Popen(  # noqa: ASYNC220  # nothing else runs yet
            kafka.command(), stdout=log, stderr=log
        )
    try:
        await kafka.wait_ready(60)
        mean_bytes = await _fill(kafka.bootstrap_servers, options.events)
        rates: dict[str, list[Rate]] = {variant: [] for variant in VARIANTS}
        for _ in range(options.rounds):
            for variant in VARIANTS:
                rates[variant].append(_fresh(variant, kafka.bootstrap_servers, options.events))
    finally:
        broker.terminate()
        broker.wait(30)
    _tell(options, mean_bytes, rates)


def _fresh(variant: str, servers: str, events: int) -> Rate:
    command = [sys.executable, "-m", "benchmarks.subscriber", "--round", variant, "--servers", servers]
    done = subprocess.run([*command, "--events", str(events)], capture_output=True, check=True, timeout=300)
    return Rate(*json.loads(done.stdout))


async def _fill(servers: str, events: int) -> float:
    """Write made-up results as the receiver does, lz4, and return their mean size."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, topics.PARTITIONS, 1)])
    await admin.close()
    total = 0
    kept: dict[int, list[wire.KafkaRecord]] = {number: [] for number in range(topics.PARTITIONS)}
    for posted in callbacks(1, date(2026, 11, 24), ZoneInfo("UTC"), events):
        body = decode_callback(posted.body)
        record = wire.encode(dial_result("demo", body.task_id, body.records[0], RECEIVED_MS))
        total += len(record.value)
        kept[topics.partition_of(record.key, topics.PARTITIONS)].append(record)
    async with AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", compression_type="lz4", max_batch_size=256 * 1024
    ) as producer:
        for number, records in kept.items():
            await _send(producer, number, records)
    return total / events


async def _send(producer: AIOKafkaProducer, number: int, records: list[wire.KafkaRecord]) -> None:
    batch = producer.create_batch()
    for one in records:
        part = {"key": one.key, "value": one.value, "timestamp": one.timestamp_ms, "headers": one.headers}
        if batch.append(**part) is None:
            await (await producer.send_batch(batch, TOPIC, partition=number))
            batch = producer.create_batch()
            batch.append(**part)
    await (await producer.send_batch(batch, TOPIC, partition=number))


async def _round(variant: str, servers: str, events: int) -> Rate:
    os.sched_setaffinity(0, CORE)
    batches = _raw(servers) if variant == "raw" else _kit(variant, servers)
    first = seen = await anext(batches)
    began, worked = time.perf_counter(), time.process_time()
    async for count in batches:
        seen += count
        if seen >= events:
            took, work = time.perf_counter() - began, time.process_time() - worked
            return Rate((seen - first) / took, (seen - first) / work)
    raise AssertionError(seen)


async def _raw(servers: str) -> AsyncIterator[int]:
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=servers,
        group_id=f"bench-{uuid.uuid4().hex}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=BATCH,
        fetch_max_bytes=8_000_000,
        max_partition_fetch_bytes=1_000_000,
    )
    async with consumer:
        while True:
            fetched = await consumer.getmany(timeout_ms=500)
            if fetched:
                yield sum(map(len, fetched.values()))
                await consumer.commit({place: records[-1].offset + 1 for place, records in fetched.items()})


async def _kit(variant: str, servers: str) -> AsyncIterator[int]:
    fields = ("conclusion", "duration", "callTime") if variant == "kit-fields" else None
    async with subscribe(f"bench-{uuid.uuid4().hex}", servers=servers, fields=fields, max_batch=BATCH) as results:
        async for batch in results:
            if variant != "kit":
                for event in batch:
                    event.record()
            yield len(batch)


def _tell(options: argparse.Namespace, mean_bytes: float, rates: dict[str, list[Rate]]) -> None:
    print(f"{options.events} events of {mean_bytes:.0f} bytes (lz4), batches of {BATCH}, {options.rounds} rounds")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| variant | events/s (median of rounds) | of raw | events per second of the core's work | of raw |")
    print("|---|---|---|---|---|")
    raw = _median(rates["raw"])
    for variant, found in rates.items():
        ours, rounds = _median(found), ", ".join(f"{rate.clock:,.0f}" for rate in found)
        clock = f"{ours.clock:,.0f} ({rounds}) | {ours.clock / raw.clock:.2f}"
        print(f"| {MEANING[variant]} | {clock} | {ours.work:,.0f} | {ours.work / raw.work:.2f} |")


def _median(rates: list[Rate]) -> Rate:
    return Rate(median(rate.clock for rate in rates), median(rate.work for rate in rates))


if __name__ == "__main__":
    main()
