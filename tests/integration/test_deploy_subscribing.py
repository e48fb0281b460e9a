from __future__ import annotations

import asyncio
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Protocol

from aiokafka import AIOKafkaProducer

from schemas import wire
from schemas.blu import decode_callback
from schemas.event import dial_result
from tests.services import create_topics

ROOT = Path(__file__).parents[2]
DOCUMENTED = (ROOT / "tests/unit/data/documented-body.txt").read_bytes()


class AnyBroker(Protocol):
    bootstrap_servers: str


def snippet(broker: AnyBroker) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/subscribing.md").read_text(), re.DOTALL)
    return code.replace("127.0.0.1:9092", broker.bootstrap_servers).replace('"dial-results"', '"subscribing"')


async def publish(broker: AnyBroker, *record_ids: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, acks="all") as producer:
        for record_id in record_ids:
            body = DOCUMENTED.replace(b"55667448", record_id.encode())
            callback = decode_callback(body)
            record = wire.encode(dial_result("demo", callback.task_id, callback.records[0], 1_795_490_055_926))
            await producer.send_and_wait("subscribing", record.value, key=record.key, headers=record.headers)


def kept(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "results.db", timeout=10)) as database:
        try:
            return sorted(row[0] for row in database.execute("SELECT contact FROM result"))
        except sqlite3.OperationalError:  # the subscriber has not made its table yet
            return []


async def test_the_documented_subscriber_keeps_each_result_once(broker: AnyBroker, tmp_path: Path) -> None:
    await create_topics(broker.bootstrap_servers, subscribing=12)
    await publish(broker, "1", "2", "1")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", snippet(broker), cwd=tmp_path)
    try:
        await publish(broker, "2", "3", "1", "4")
        async with asyncio.timeout(60):
            while kept(tmp_path) != ["demo:1", "demo:2", "demo:3", "demo:4"]:
                assert process.returncode is None
                await asyncio.sleep(0.1)
    finally:
        process.terminate()
        await process.wait()
