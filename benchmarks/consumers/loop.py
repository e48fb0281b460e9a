"""The delivery loop alone: a backlog through fetching, decoding, dispatching and committing into a sink of nothing."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from statistics import median

import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from consumers.__main__ import collect_seldom
from consumers.consumer import Consumer, Destination
from consumers.metrics import Metrics
from consumers.records import make_records_light
from consumers.settings import ConsumerSettings
from consumers.sink import Batching, Delivery
from schemas import topics
from schemas.logs import configure_logging

from . import backlog, machine
from .figure import Figure

_EVENTS = 1_000_000
_ROUNDS = ("nothing-1", "nothing-2", "nothing-3")  # a consumer of its own each, so that each begins at the beginning
_TARGET = 100_000


class Nothing:
    """Takes everything at once, and counts it; `all_came` when it was as much as expected."""

    def __init__(self, expected: int) -> None:
        self.came = 0
        self.began = 0.0
        self.all_came = asyncio.Event()
        self._expected = expected

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Nothing]:
        yield self

    async def write(self, deliveries: Sequence[Delivery]) -> None:
        self.began = self.began or time.perf_counter()
        self.came += len(deliveries)
        if self.came >= self._expected:
            self.all_came.set()


async def measure(scale: float) -> list[Figure]:
    """Run a process over the same backlog several times; the median is the figure."""
    count = int(_EVENTS * scale)
    async with machine.kafka(*_ROUNDS) as kafka:
        await backlog.fill(kafka, backlog.results(count))
        pairs = [await asyncio.to_thread(_pair, kafka, name, count) for name in _ROUNDS]
    runs, bare = [run for run, _ in pairs], median(yardstick["per_second"] for _, yardstick in pairs)
    speeds = [run["per_second"] for run in runs]
    spread = f"{count:,} events of about 870 bytes; median of {', '.join(f'{speed:,.0f}' for speed in speeds)}"
    reached = median(speeds)
    return [
        Figure("loop into a sink of nothing", f">= {_TARGET:,}", reached, "events/s", reached >= _TARGET, spread),
        Figure("aiokafka's getmany alone, nothing decoded or committed", "", bare, "events/s", None, "yardstick"),
        Figure("processor time of it", "", median(run["cpu_us"] for run in runs), "us an event", None),
        Figure("memory of it", "", max(run["rss_mb"] for run in runs), "MB RSS at most", None),
    ]


def _pair(kafka: str, name: str, count: int) -> tuple[dict[str, float], dict[str, float]]:
    """Run the loop and the yardstick, one after the other, so that a slow minute of the machine hits both."""
    return _round("loop", kafka, name, count), _round("bare", kafka, name, count)


def _round(what: str, kafka: str, name: str, count: int) -> dict[str, float]:
    command = [sys.executable, "-m", __name__, what, kafka, name, str(count)]
    return dict(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


async def _consume(kafka: str, name: str, count: int) -> dict[str, float]:
    make_records_light()
    sink, stop = Nothing(count), asyncio.Event()
    destination = Destination(name, sink.connect, Batching(), "benchmark")
    consumer = Consumer(destination, ConsumerSettings(), {"bootstrap_servers": kafka}, Metrics(name))
    working = asyncio.create_task(consumer.run(stop))
    cpu_s = time.process_time()
    await sink.all_came.wait()
    seconds, cpu_s = time.perf_counter() - sink.began, time.process_time() - cpu_s
    stop.set()
    await working
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"per_second": count / seconds, "cpu_us": cpu_s * 1e6 / count, "rss_mb": rss_mb}


async def _fetch(kafka: str, _name: str, count: int) -> dict[str, float]:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest", fetch_max_bytes=8_000_000)
    await consumer.start()
    consumer.assign([TopicPartition(topics.DIAL_RESULTS, number) for number in range(topics.PARTITIONS)])
    came, began = 0, 0.0
    while came < count:
        for records in (await consumer.getmany(timeout_ms=500, max_records=Batching().max_events)).values():
            began = began or time.perf_counter()
            came += len(records)
    seconds = time.perf_counter() - began
    await consumer.stop()
    return {"per_second": count / seconds}


if __name__ == "__main__":
    configure_logging("benchmark", "error")
    collect_seldom()
    work = {"loop": _consume, "bare": _fetch}[sys.argv[1]]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(work(sys.argv[2], sys.argv[3], int(sys.argv[4])))))
