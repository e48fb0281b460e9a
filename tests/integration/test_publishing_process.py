from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from structlog.testing import capture_logs

from receiver.counts import PublishCounts
from receiver.journal import Journal, JournalLimits
from receiver.publishing import PublishingProcess
from schemas import topics, wire
from schemas.kafka_client import KafkaClient
from tests.integration.test_receiver_publisher import RECEIVED_MS, Reader, body, ensure_topics, reading
from tests.services import Broker
from tests.unit.receivers import until

LIMITS = JournalLimits(quota_bytes=1 << 30, segment_bytes=1 << 20)


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def publishing_pids() -> list[int]:
    return [pid for pid in children() if b"receiver.publishing" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@asynccontextmanager
async def publishing(folder: Path, bootstrap_servers: str) -> AsyncIterator[tuple[Journal, PublishCounts]]:
    journal, counts = Journal.open(folder, LIMITS), PublishCounts()
    part = PublishingProcess(journal, counts, "info", KafkaClient(bootstrap_servers=bootstrap_servers))
    task = asyncio.create_task(part.run())
    try:
        yield journal, counts
        assert not task.done(), "nothing may stop it"
    finally:
        task.cancel()
        await asyncio.wait((task,))
        await journal.close()
    assert publishing_pids() == []


def spoil(folder: Path, text: bytes) -> None:
    segment = next(folder.glob("*.segment"))
    with segment.open("r+b") as file:
        file.seek(segment.read_bytes().index(text))
        file.write(b"X")


def set_aside(folder: Path) -> int:
    return len(list(folder.glob("*.damaged")))


async def append(journal: Journal, merchant: str, first: int, count: int) -> None:
    bodies = [body(f"contact-{number % 7}", f"{number:06d}") for number in range(first, first + count)]
    await asyncio.gather(*(journal.append(merchant, one, RECEIVED_MS) for one in bodies))


async def of(reader: Reader, merchant: str, count: int) -> list[tuple[str, str]]:
    """Return record id and text of every result of this merchant, in each partition's order."""

    def mine(records: list[object]) -> list[wire.DialResult]:  # type: ignore[name-defined]
        decoded = [wire.decode(record.value) for record in records]  # type: ignore[attr-defined]
        return [event for event in decoded if event.merchant == merchant]

    await reader.until(lambda records: len({event.event_id for event in mine(records)}) >= count, 120)
    return [(event.record_id, event.record()["text"]) for event in mine(reader.records)]


async def test_what_is_journaled_is_published_in_order_counted_and_marked(broker: Broker, tmp_path: Path) -> None:
    await ensure_topics(broker)
    merchant = f"m-{uuid4().hex[:8]}"
    async with reading(broker, topics.DIAL_RESULTS) as reader:
        async with publishing(tmp_path, broker.bootstrap_servers) as (journal, counts):
            for start in range(0, 3_000, 1_000):  # three segments at least
                await append(journal, merchant, start, 1_000)
            await until(lambda: journal.waiting == 0, 120)
            await until(lambda: counts.published[merchant] == 3_000)
            assert counts.kafka_up
        got = await of(reader, merchant, 3_000)
    assert len(got) == 3_000
    for contact in {contact for contact, _ in got}:
        texts = [text for one, text in got if one == contact]
        assert texts == sorted(texts)


async def test_a_killed_publisher_is_started_again_and_nothing_is_missing_or_out_of_order(
    broker: Broker, tmp_path: Path
) -> None:
    await ensure_topics(broker)
    merchant = f"m-{uuid4().hex[:8]}"
    async with reading(broker, topics.DIAL_RESULTS) as reader:
        with capture_logs() as logs:
            async with publishing(tmp_path, broker.bootstrap_servers) as (journal, counts):
                for start in range(0, 6_000, 2_000):
                    await append(journal, merchant, start, 2_000)
                    await until(lambda: publishing_pids() and counts.kafka_up, 120)
                    pid = publishing_pids()[0]
                    os.kill(pid, signal.SIGKILL)
                    await until(lambda pid=pid: pid not in publishing_pids())  # type: ignore[misc]
                    await until(lambda: not counts.kafka_up or journal.waiting == 0)
                await until(lambda: journal.waiting == 0, 120)
        got = await of(reader, merchant, 6_000)
    assert [log["event"] for log in logs].count("publishing_process_ended") == 3
    for contact in {contact for contact, _ in got}:
        texts = [text for one, text in got if one == contact]
        first_time = list(dict.fromkeys(texts))
        assert first_time == sorted(first_time)


async def test_why_nothing_is_published_reaches_the_receiver(tmp_path: Path) -> None:
    async with publishing(tmp_path, "127.0.0.1:1") as (journal, counts):
        await journal.append("demo", body("1"), RECEIVED_MS)
        await until(lambda: counts.stalled_for == "unreachable", 120)
        assert counts.publish_failures >= 1
        assert not counts.kafka_up
        assert journal.waiting == 1


async def test_damage_is_set_aside_counted_and_stepped_over(broker: Broker, tmp_path: Path) -> None:
    await ensure_topics(broker)
    merchant = f"m-{uuid4().hex[:8]}"
    journal = Journal.open(tmp_path, LIMITS)
    for number in range(3):
        await journal.append(merchant, body("1", f"{number}" * 50), RECEIVED_MS)
    await journal.close()
    spoil(tmp_path, b"1" * 50)
    async with reading(broker, topics.DIAL_RESULTS) as reader:
        async with publishing(tmp_path, broker.bootstrap_servers) as (opened, counts):
            await opened.append(merchant, body("1", "3" * 50), RECEIVED_MS)
            await until(lambda: opened.waiting == 0, 120)
            assert counts.damaged + opened.damaged_callbacks == 1
        got = await of(reader, merchant, 3)
    assert [text[0] for _, text in got] == ["0", "2", "3"]
    assert set_aside(tmp_path) == 1
