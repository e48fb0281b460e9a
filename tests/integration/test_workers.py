from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp

from ops.reporting.callbacks import callbacks
from receiver.journal import Journal, JournalLimits
from schemas import topics, wire
from tests.integration.test_receiver_publisher import body, ensure_topics, reading
from tests.services import Broker
from tests.unit.receivers import TOKEN, merchants, until

LIMITS = JournalLimits(quota_bytes=1 << 30, segment_bytes=1 << 20)


class Workers:
    """`python -m receiver --workers N` as a process, from outside."""

    def __init__(self, folder: Path, kafka: str) -> None:
        self.folder = folder
        (folder / "merchants.toml").write_text(merchants((self.merchant, "t-1", TOKEN)))
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path.cwd()),
            "RECEIVER_PORT": "0",
            "RECEIVER_ADMIN_PORT": "0",
            "RECEIVER_MERCHANTS_FILE": str(folder / "merchants.toml"),
            "RECEIVER_JOURNAL_DIR": str(folder / "journal"),
            "RECEIVER_JOURNAL_SEGMENT_BYTES": str(1 << 20),
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
        }
        self.log = folder / "log"
        self.port = self.admin_port = 0

    merchant = f"m-{uuid4().hex[:8]}"

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    @asynccontextmanager
    async def running(self, count: int) -> AsyncIterator[asyncio.subprocess.Process]:
        self.log.write_text("")
        command = (sys.executable, "-m", "receiver", "--workers", str(count))
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(*command, env=self.environment, stdout=log, stderr=log)
        try:
            name = "supervisor_started" if count > 1 else "receiver_started"
            await until(lambda: any(event["event"] == name for event in self.events()), 120)
            started = next(event for event in self.events() if event["event"] == name)
            self.port, self.admin_port = started["port"], started["admin_port"]
            await until(lambda: len([e for e in self.events() if e["event"] == "receiver_started"]) >= count, 120)
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(60):
                await process.wait()

    async def post(self, session: aiohttp.ClientSession, content: bytes) -> int:
        url = f"http://127.0.0.1:{self.port}/callbacks/{TOKEN}"
        async with session.post(url, data=content, headers={"Connection": "close"}) as answer:
            return answer.status

    async def metrics(self) -> str:
        url = f"http://127.0.0.1:{self.admin_port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.text()

    async def ready(self) -> int:
        url = f"http://127.0.0.1:{self.admin_port}/readyz"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status


def values(text: str, name: str) -> dict[str, float]:
    return {m[1]: float(m[2]) for m in re.finditer(rf'^{name}{{.*?worker="(\d+)".*?}} (\S+)$', text, re.MULTILINE)}


async def post_all(workers: Workers, numbers: range) -> set[int]:
    """Post each until it is answered 200; a connection that is refused or reset is tried again, and returned."""
    broken: set[int] = set()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:

        async def one(number: int) -> None:
            for _ in range(200):
                try:
                    if await workers.post(session, body(str(number))) == 200:
                        return
                except aiohttp.ClientError:
                    broken.add(number)
                await asyncio.sleep(0.05)
            raise AssertionError("never answered")

        for start in range(numbers.start, numbers.stop, 50):
            await asyncio.gather(*(one(number) for number in range(start, min(start + 50, numbers.stop))))
    return broken


async def test_workers_share_the_port_have_a_journal_each_and_their_metrics_are_told_apart(
    broker: Broker, tmp_path: Path
) -> None:
    await ensure_topics(broker)
    workers = Workers(tmp_path, broker.bootstrap_servers)
    async with reading(broker, topics.DIAL_RESULTS) as reader:
        async with workers.running(3):
            assert await workers.ready() == 200
            assert not await post_all(workers, range(300))
            received = values(await workers.metrics(), "dial_results_receiver_callbacks_acknowledged_total")
            assert sum(received.values()) == 300
            assert len([count for count in received.values() if count]) == 3, "the kernel gives each of them some"
            await reader.until(lambda found: len(of(found, workers.merchant)) >= 300)
        assert of(reader.records, workers.merchant) == {str(number) for number in range(300)}
    assert sorted(path.name for path in (tmp_path / "journal").glob("worker-*")) == ["worker-1", "worker-2"]


def of(records: list[Any], merchant: str) -> set[str]:
    events = [wire.decode(record.value) for record in records]
    return {event.record_id for event in events if event.merchant == merchant}


async def test_a_killed_worker_is_started_again_and_the_others_go_on(tmp_path: Path) -> None:
    workers = Workers(tmp_path, "127.0.0.1:1")
    async with workers.running(2) as process:
        worker = children(process.pid)[1]
        posting = asyncio.create_task(post_all(workers, range(400)))
        await asyncio.sleep(0.1)
        os.kill(worker, signal.SIGKILL)
        await posting
        await until(lambda: any(event["event"] == "worker_ended" for event in workers.events()))
        await until(lambda: len([e for e in workers.events() if e["event"] == "receiver_started"]) == 3)
        assert await workers.ready() == 200
        restarts = values(await workers.metrics(), "dial_results_supervisor_worker_restarts_total")
        assert sum(restarts.values()) == 1


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task").glob("*/children")
    pids = [int(child) for path in found for child in path.read_text().split()]
    return [child for child in pids if b"--worker\0" in Path(f"/proc/{child}/cmdline").read_bytes()]


async def test_a_killed_supervisor_takes_its_workers_along(tmp_path: Path) -> None:
    workers = Workers(tmp_path, "127.0.0.1:1")
    async with workers.running(2) as process:
        pids = children(process.pid)
        process.kill()
        await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 60)


async def test_what_a_worker_left_is_published_when_there_are_fewer(broker: Broker, tmp_path: Path) -> None:
    await ensure_topics(broker)
    workers = Workers(tmp_path, "127.0.0.1:1")
    async with workers.running(3):
        await post_all(workers, range(120))
    left = [await waiting(tmp_path / "journal" / f"worker-{index}") for index in (1, 2)]
    assert sum(left) > 0
    workers.environment["KAFKA_BOOTSTRAP_SERVERS"] = broker.bootstrap_servers
    async with reading(broker, topics.DIAL_RESULTS) as reader, workers.running(1):
        await reader.until(lambda found: len(of(found, workers.merchant)) >= 120)
        published = sum(bool(one) for one in left)
        await until(lambda: [e["event"] for e in workers.events()].count("left_journal_published") == published)
        counted = await callbacks(f"http://127.0.0.1:{workers.admin_port}")
        assert counted
        assert (counted.recovered, counted.decoded, counted.even) == (120, 120, True), "report balance, of all three"
    assert await waiting(tmp_path / "journal" / "worker-1") == 0
    assert await waiting(tmp_path / "journal" / "worker-2") == 0


async def waiting(folder: Path) -> int:
    journal = Journal.open(folder, LIMITS)
    try:
        return journal.waiting
    finally:
        await journal.close()


async def test_workers_are_replaced_in_turn_without_a_broken_connection(tmp_path: Path) -> None:
    workers = Workers(tmp_path, "127.0.0.1:1")
    async with workers.running(2) as process:
        before = children(process.pid)
        posting = asyncio.create_task(post_all(workers, range(1_500)))
        process.send_signal(signal.SIGUSR2)
        broken = await posting
        await until(lambda: any(event["event"] == "workers_replaced" for event in workers.events()), 180)
        assert not set(before) & set(children(process.pid))
    assert not broken


async def test_wrong_settings_of_the_workers_end_it_with_2(tmp_path: Path) -> None:
    workers = Workers(tmp_path, "127.0.0.1:1")
    (tmp_path / "merchants.toml").write_text("[")
    command = (sys.executable, "-m", "receiver", "--workers", "2")
    process = await asyncio.create_subprocess_exec(
        *command, env=workers.environment, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        await process.communicate()  # to the end of its pipes, or one of them is left open
    assert process.returncode == 2
