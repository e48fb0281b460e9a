"""What a user of `dial-results up` has: the command, up.json, HTTP, SQL, Delta, Kafka. Nothing of ours is imported."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import asyncpg
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from deltalake import DeltaTable, QueryBuilder

COMMAND = str(Path(sys.executable).with_name("dial-results"))
START_S = 180  # cold: jars are fetched
STOP_S = 120
ARRIVE_S = 120
T = TypeVar("T")


def eventually(look: Callable[[], T], limit_s: float = ARRIVE_S) -> T:
    """Look until there is something to see; the last look decides."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if seen := look():
            return seen
        time.sleep(0.1)
    return look()


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def ask(url: str, body: bytes | None = None, method: str | None = None) -> Answer:
    headers = {"Content-type": "application/json"}
    request = urllib.request.Request(url, data=body, method=method, headers=headers)  # noqa: S310  # our own address
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return Answer(response.status, dict(response.headers), response.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, dict(error.headers), error.read())


class Up:
    """A running `up`."""

    def __init__(self, data: Path, *arguments: str) -> None:
        self.data = data
        self.output = data.with_suffix(".out")
        with self.output.open("wb") as out:
            command = (COMMAND, "up", "--data", str(data), *arguments)
            # After a kill the group waits for so long.
            environment = os.environ | {"CONSUMER_SESSION_TIMEOUT_S": "3"}
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads((self.data / "up.json").read_text()))

    def wait_for(self, text: str, limit_s: float = START_S) -> None:
        eventually(lambda: text in self.said or self.process.poll() is not None, limit_s)
        assert text in self.said, self.said

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def part(self, action: str, name: str) -> str:
        done = part(self.data, action, name)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def post(self, body: bytes) -> Answer:
        return ask(self.json["callback_url"], body)

    def processes(self) -> list[int]:
        """Return all processes that have this folder in their command line or environment, `up` itself too."""
        mine, names = str(self.data).encode(), (path.name for path in Path("/proc").iterdir())
        return [pid for pid in map(int, filter(str.isdecimal, names)) if mine in _described(pid)]

    def rows(self, sql: str, *arguments: object) -> list[Any]:
        async def fetch() -> list[Any]:
            connection = await asyncpg.connect(self.json["postgres_dsn"])
            try:
                return list(await connection.fetch(sql, *arguments))
            finally:
                await connection.close()

        return run(fetch())

    def metric(self, name: str) -> float:
        """Return the sum of a metric of the receiver over its labels."""
        lines = ask(self.json["receiver_admin_url"] + "/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + " ", name + "{")))

    def records(self, topic: str) -> list[ConsumerRecord]:
        """Return everything that is in a topic now."""

        async def read() -> list[ConsumerRecord]:
            consumer = AIOKafkaConsumer(
                topic,
                bootstrap_servers=self.json["kafka_bootstrap_servers"],
                auto_offset_reset="earliest",
                fetch_max_wait_ms=20,
            )
            await consumer.start()
            try:
                found: list[ConsumerRecord] = []
                ends = await consumer.end_offsets(consumer.assignment())
                while any([await consumer.position(place) < end for place, end in ends.items()]):
                    batches = await consumer.getmany(timeout_ms=500)
                    found.extend(record for batch in batches.values() for record in batch)
                return found
            finally:
                await consumer.stop()

        return run(read())


def run(work: Coroutine[Any, Any, T]) -> T:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result(120)


def part(data: Path, action: str, name: str) -> subprocess.CompletedProcess[str]:
    command = (COMMAND, "part", action, name, "--data", str(data))
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)


def _described(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


@contextmanager
def running(data: Path, *arguments: str) -> Iterator[Up]:
    """Start one, wait until it has proven itself, and leave nothing behind."""
    up = Up(data, *arguments)
    try:
        up.wait_for("s after the start")
        yield up
    finally:
        if up.process.poll() is None:
            up.end()


def callback(task: str, record: str, **fields: object) -> bytes:
    return json.dumps({"taskId": task, "records": [{"id": record, **fields}]}).encode()


class Effects(NamedTuple):
    """How often each record of one task is in each sink."""

    storage: Counter[str]
    analytics: Counter[str]
    crm: Counter[str]


def effects(up: Up, task: str) -> Effects:
    told = up.json
    rows = up.rows("SELECT record_id, event_id::text FROM dial_result WHERE task_id = $1", task)
    record_of = {row["event_id"]: row["record_id"] for row in rows}
    in_crm = [effect["event_id"] for effect in json.loads(ask(told["crm_url"] + "/effects").body)]
    return Effects(
        Counter(row["record_id"] for row in rows),
        Counter(record_of.get(event, event) for event in delta_events(told["analytics_uri"], task)),
        Counter(record_of[event] for event in in_crm if event in record_of),
    )


def delta_events(uri: str, task: str) -> list[str]:
    if not DeltaTable.is_deltatable(uri):
        return []
    query = f"SELECT event_id FROM results WHERE task_id = '{task}'"  # noqa: S608
    found = QueryBuilder().register("results", DeltaTable(uri)).execute(query).read_all()
    return [str(event) for event in found.column("event_id").to_pylist()] if found.num_rows else []


def once_everywhere(up: Up, task: str, records: list[str], limit_s: float = ARRIVE_S) -> None:
    """Assert that these records, and no others of the task, are there once, in all three sinks."""
    wanted = Counter(records)
    assert set(wanted.values()) == {1}
    eventually(lambda: all(found == wanted for found in effects(up, task)), limit_s)
    for sink, found in zip(Effects._fields, effects(up, task), strict=True):
        assert found == wanted, f"{sink}: {_told(found, wanted)}"


def _told(found: Counter[str], wanted: Counter[str]) -> str:
    return f"{len(found)} of {len(wanted)}; missing {list(wanted - found)[:5]}, too many {list(found - wanted)[:5]}"
