"""What tests of replays share: a pipeline's places, the command in a process of its own, and what came out."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from ops.places import Places
from schemas import topics
from schemas.blu import BluRecord
from schemas.event import DialResult, dial_result
from schemas.exact import canonical
from tests.integration.delivery import PARTITIONS, Kafka

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)


def results(count: int, *, first: int = 0, merchant: str = "demo", **record: Any) -> list[DialResult]:
    """Make one result a second from `START` on, of `count` contacts; conclusions take turns."""
    made = []
    for number in range(first, first + count):
        content = {"id": number, "conclusion": ("HPTP", "D01", "AP")[number % 3]} | record
        at_ms = int((START + timedelta(seconds=number)).timestamp() * 1_000)
        one = BluRecord(0, str(number), canonical(content))
        made.append(dial_result(merchant, str(number % 2), one, at_ms))
    return made


def places(kafka: Kafka, dsn: str) -> Places:
    return Places({"bootstrap_servers": kafka.bootstrap_servers}, dsn)


async def everything(kafka: Kafka, topic: str, partitions: int = PARTITIONS) -> list[Any]:
    """Read what stands in a topic now."""
    reader = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest", fetch_max_wait_ms=20
    )
    await reader.start()
    try:
        where = [TopicPartition(topic, number) for number in range(partitions)]
        reader.assign(where)
        ends, records = await reader.end_offsets(where), []
        await reader.seek_to_beginning()
        while any([await reader.position(place) < end for place, end in ends.items()]):
            for found in (await reader.getmany(timeout_ms=200)).values():
                records += found
    finally:
        await reader.stop()
    return records


def ids(records: list[Any]) -> Counter[str]:
    return Counter(dict(one.headers)["ce_id"].decode() for one in records)


def command(kafka: Kafka, dsn: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start `dial-results ...` on this test's topics."""
    program = (
        f"from schemas import topics; topics.DIAL_RESULTS = {topics.DIAL_RESULTS!r}; from ops.cli import main; main()"
    )
    settings = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "STORAGE_DSN": dsn}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | settings | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def said(process: subprocess.Popen[bytes], code: int = 0) -> Any:
    """Wait for its end, and read its JSON."""
    out, err = await asyncio.to_thread(process.communicate, timeout=120)
    assert process.returncode == code, (process.returncode, out.decode(), err.decode())
    return json.loads(out) if out.startswith((b"{", b"[")) else (out + err).decode()
