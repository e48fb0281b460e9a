"""`dial-results journal drain|resend`, each a process of its own, with a real broker or with none."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from receiver.journal import Disk, Journal, JournalLimits, survey
from receiver.journal.frame import Entry
from receiver.journal.store import Store
from schemas import topics, wire
from tests.integration.test_receiver_publisher import body, ensure_topics, kept, publishing, reading, until
from tests.services import Broker

NOBODY = "127.0.0.1:1"
LIMITS = JournalLimits(segment_bytes=64 * 1024, quota_bytes=1 << 24, disk_share=1)


def start(command: str, folder: Path, *more: str, kafka: str = NOBODY) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "ops", "journal", command, str(folder), *more]
    environment = os.environ | {"KAFKA_BOOTSTRAP_SERVERS": kafka}
    return subprocess.Popen(
        words, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


async def ran(command: str, folder: Path, *more: str, kafka: str = NOBODY) -> tuple[int, dict[str, int], str]:
    """Return exit code, the object on standard output, and what was said on standard error."""
    process = start(command, folder, "--json", *more, kafka=kafka)
    out, err = await asyncio.to_thread(process.communicate, timeout=120)
    assert "Traceback" not in err
    return process.returncode, json.loads(out or "{}"), err


def left_behind(folder: Path, *bodies: bytes, published: int = 0, at_once: int = 3) -> Path:
    """A journal without a receiver; so many callbacks a frame."""
    store = Store(folder, LIMITS, Disk())
    now_ms = time.time_ns() // 1_000_000
    for first in range(0, len(bodies), at_once):
        store.commit([Entry(now_ms, b"demo", one) for one in bodies[first : first + at_once]])
    if published:
        store.mark_published(published)
    store.close()
    return folder


async def test_a_journal_whose_receiver_is_gone_is_published_to_its_end(own_broker: Broker, tmp_path: Path) -> None:
    await ensure_topics(own_broker)
    bodies = [body(f"drain-{number}") for number in range(2_500)]
    left_behind(tmp_path, *bodies, b"?", b'{"taskId":1,"records":[]}', published=100)
    dry, figures, _ = await ran("drain", tmp_path, "--dry-run")
    assert (dry, figures) == (0, {"waiting": 2_402})
    async with reading(own_broker, topics.DIAL_RESULTS) as results:
        code, figures, said = await ran("drain", tmp_path, kafka=own_broker.bootstrap_servers)
        records = await results.until(lambda records: len(records) >= 2_400)
    assert (code, figures) == (
        0,
        {"results": 2_400, "quarantined": 1, "empty": 1, "repeats": 0, "waiting": 0, "missing": 0},
    )
    assert "2,402 callbacks wait." in said
    assert {record.key for record in records} == {f"demo:drain-{number}".encode() for number in range(100, 2_500)}
    assert not any(topics.RESENT in kept(record) for record in records), "it is sent for the first time"
    again, figures, _ = await ran("drain", tmp_path, kafka=own_broker.bootstrap_servers)
    assert (again, figures["results"]) == (0, 0)


async def test_an_interrupted_drain_goes_on_where_it_stopped(own_broker: Broker, tmp_path: Path) -> None:
    await ensure_topics(own_broker)
    count = 60_000
    left_behind(tmp_path, *(body(f"on-{number}") for number in range(count)), at_once=100)
    segments = set(os.listdir(tmp_path))  # noqa: PTH208  # names are what is wanted
    async with reading(own_broker, topics.DIAL_RESULTS) as results:
        process = start("drain", tmp_path, kafka=own_broker.bootstrap_servers)
        await results.until(lambda records: len(records) > 1_000)  # a first window is done, and sixty were waiting
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.to_thread(process.communicate, timeout=120)
        assert (process.returncode, "Interrupted" in out, "Traceback" in err) == (75, True, False)
        left = survey(tmp_path, read_whole=False).waiting
        code, figures, _ = await ran("drain", tmp_path, kafka=own_broker.bootstrap_servers)
        records = await results.until(lambda records: len({record.key for record in records}) == count)
    assert (code, figures["results"], figures["waiting"]) == (0, left, 0)
    assert 0 < left < count
    assert len(records) - count <= 1_000
    assert segments <= set(os.listdir(tmp_path)) | {"checkpoint"}  # noqa: PTH208


async def test_what_is_damaged_is_passed_over_and_told(own_broker: Broker, tmp_path: Path) -> None:
    await ensure_topics(own_broker)
    left_behind(tmp_path, *(body(f"damaged-{number}") for number in range(9)))
    (segment,) = tmp_path.glob("*.segment")  # noqa: ASYNC240  # nothing else runs
    content = bytearray(segment.read_bytes())
    content[content.index(b"damaged-4")] ^= 1
    segment.write_bytes(content)
    code, figures, _ = await ran("drain", tmp_path, kafka=own_broker.bootstrap_servers)
    assert (code, figures["results"], figures["missing"], figures["waiting"]) == (1, 6, 3, 0)


async def test_a_running_receivers_journal_is_left_alone(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, LIMITS)
    await journal.append("demo", body("mine"), 1)
    code, figures, said = await ran("drain", tmp_path)
    assert (code, figures) == (75, {})
    assert "has this journal" in said
    assert journal.waiting == 1
    await journal.close()


async def test_without_kafka_it_gives_up_and_keeps_everything(tmp_path: Path) -> None:
    left_behind(tmp_path, body("kept"))
    code, figures, said = await ran("drain", tmp_path, "--patience", "1")
    assert (code, figures["waiting"]) == (75, 1)
    assert "unreachable" in said
    assert survey(tmp_path, read_whole=True).waiting == 1


async def test_an_interrupted_drain_ends_in_good_order(tmp_path: Path) -> None:
    left_behind(tmp_path, body("kept"))
    process = start("drain", tmp_path)
    assert process.stderr
    assert "1 callbacks wait." in await asyncio.to_thread(process.stderr.readline)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.to_thread(process.communicate, timeout=120)
    assert (process.returncode, "Interrupted" in out, "Traceback" in err) == (75, True, False)
    await Journal.open(tmp_path, LIMITS).close()


async def test_what_is_retained_is_sent_again_beside_a_running_receiver(own_broker: Broker, tmp_path: Path) -> None:
    await ensure_topics(own_broker)
    async with (
        reading(own_broker, topics.DIAL_RESULTS) as results,
        reading(own_broker, topics.QUARANTINE) as quarantine,
        publishing(tmp_path, own_broker.bootstrap_servers) as part,
    ):
        now_ms = time.time_ns() // 1_000_000
        before = [*(body(f"again-{number}") for number in range(1_200)), b"?"]
        await asyncio.gather(*(part.journal.append("demo", one, now_ms - 3 * 3_600_000) for one in before))
        await part.journal.append("demo", body("just-now"), now_ms)
        await part.journal.append("acme", body("of-another"), now_ms)
        await part.published()
        first = list(await results.until(lambda records: len(records) >= 1_202))
        marked = part.journal.published
        code, figures, said = await ran("resend", tmp_path, "--dry-run")
        assert (code, figures, "acme 1, demo 1,202" in said) == (0, {"callbacks": 1_203, "damaged": 0}, True)
        for when, count in ((("--since", "2h"), 1), (("--until", "2h"), 1_200)):
            results.records = []
            chosen = (*when, "--merchant", "demo", "--yes")
            code, figures, _ = await ran("resend", tmp_path, *chosen, kafka=own_broker.bootstrap_servers)
            assert code == 0
            records = list(await results.until(lambda records, count=count: len(records) >= count))
            assert all(topics.RESENT in kept(record) for record in records)
            assert {kept(record)["ce_id"] for record in records} <= {kept(record)["ce_id"] for record in first}
            assert figures["results"] == len(records) == count
        aside = await quarantine.until(lambda records: len(records) >= 2)
        assert [(record.value, topics.RESENT in kept(record)) for record in aside] == [(b"?", False), (b"?", True)]
        assert part.journal.published == marked
        assert not any(topics.RESENT in kept(record) for record in first)
        assert {wire.decode(record.value).merchant for record in records} == {"demo"}


async def test_what_waits_is_not_sent_by_resend(tmp_path: Path) -> None:
    left_behind(tmp_path, *(body(f"n-{number}") for number in range(9)), published=6)
    code, figures, _ = await ran("resend", tmp_path, "--dry-run")
    assert (code, figures["callbacks"]) == (0, 6)
    code, _, said = await ran("resend", tmp_path, "--yes", "--patience", "1")
    assert (code, "unreachable" in said) == (75, True)


@pytest.mark.parametrize("answer", ["n\n", ""])
async def test_nothing_is_sent_again_that_was_not_confirmed(tmp_path: Path, answer: str) -> None:
    left_behind(tmp_path, body("n"), published=1)
    process = start("resend", tmp_path)
    out, err = await asyncio.to_thread(process.communicate, answer, timeout=120)
    assert (process.returncode in (1, 75), out) == (True, "")
    assert "Send them?" in err


async def test_the_retained_are_read_while_a_receiver_writes_and_removes(tmp_path: Path) -> None:
    from receiver.journal import Choice, Retained  # noqa: PLC0415

    journal = Journal.open(tmp_path, JournalLimits(segment_bytes=16 * 1024, quota_bytes=1 << 20, disk_share=1))
    stop = False

    async def write() -> None:
        while not stop:
            last = await asyncio.gather(*(journal.append("demo", bytes(700), 1) for _ in range(8)))
            await asyncio.to_thread(journal.mark_published, max(1, last[-1] - 200))

    def look() -> tuple[int, list[int], list[Any]]:
        retained = Retained(tmp_path, Choice(0, 2))
        return retained.published, [callback.sequence for callback in retained], list(retained.damages)

    writing = asyncio.ensure_future(write())
    await until(lambda: journal.published > 2_000)
    for _ in range(20):
        published, sequences, damages = await asyncio.to_thread(look)
        assert sequences == list(range(sequences[0], published + 1))
        assert not damages
    stop = True
    await writing
    await journal.close()
