from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, QueryBuilder

from consumers.sink import Delivery
from consumers.sinks.analytics import Settings, connect, event_ids
from schemas.blu import BluRecord
from schemas.event import DialResult, dial_result
from schemas.exact import canonical, decode
from schemas.merchants import Merchant

LIVE = "dial-results"
REPLAY = "dial-results.analytics.replay"
NOW = datetime.now(UTC).replace(microsecond=123_000)
NAME, MOBILE = "Canary Sparrow", "0177****3990"


def event(record_id: str = "7", received: datetime = NOW, source: str = "callback", **fields: Any) -> DialResult:
    content = canonical(decode(json.dumps({"id": record_id, "name": NAME, "mobile": MOBILE} | fields)))
    received_ms = round(received.timestamp() * 1000)
    return dial_result("demo", "1", BluRecord(0, record_id, content), received_ms, source=source)


def live(events: Sequence[DialResult], first: int = 0, partition: int = 0) -> list[Delivery]:
    return [Delivery(one, LIVE, partition, offset) for offset, one in enumerate(events, first)]


def replayed(events: Sequence[DialResult], originals: Sequence[int]) -> list[Delivery]:
    places = zip(events, originals, strict=True)
    return [Delivery(one, REPLAY, 0, at, "r-1", (0, original)) for at, (one, original) in enumerate(places)]


def many(count: int, **fields: Any) -> list[DialResult]:
    return [event(str(number), **fields) for number in range(count)]


async def assert_exactly(settings: Settings, events: Sequence[DialResult]) -> None:
    assert sorted(await event_ids(settings)) == sorted({one.event_id for one in events})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(uri=str(tmp_path / "lake" / "results"), pseudonym_key="secret", compact_every=3)


def rows(settings: Settings) -> list[dict[str, Any]]:
    found = QueryBuilder().register("t", DeltaTable(settings.uri)).execute("SELECT * FROM t").read_all()
    return [
        dict(zip(found.column_names, values, strict=True))
        for values in zip(*(column.to_pylist() for column in found.columns), strict=True)
    ]


def everything(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in folder.rglob("*") if file.is_file()]


def start_victim(uri: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _VICTIM, uri], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


async def test_a_row_says_what_the_event_says(settings: Settings) -> None:
    one = event(
        conclusion="KPTP",
        callTime="2026-11-24 03:00:00",
        duration="12.5",
        received=datetime(2026, 11, 23, 23, 59, tzinfo=UTC),
    )
    nobody = event("8", name=None, mobile=None)
    merchant = Merchant(name="demo", conclusions={"KPTP": "promise"})
    async with connect(settings, {"demo": merchant}) as sink:
        await sink.write(live([one, nobody, event("9", conclusion="LMS"), event("10", conclusion="new")]))
    found = {row["record_id"]: row for row in rows(settings)}
    assert found["7"] == {
        "event_id": one.event_id,
        "merchant": "demo",
        "task_id": "1",
        "record_id": "7",
        "received_at": datetime(2026, 11, 23, 23, 59, tzinfo=UTC),
        "date": date(2026, 11, 23),
        "source": "callback",
        "conclusion": "KPTP",
        "conclusion_group": "promise",
        "called_at": datetime(2026, 11, 24, 3, tzinfo=UTC),
        "duration_s": 12.5,
        "person": hmac.new(b"secret", MOBILE.encode(), hashlib.sha256).hexdigest(),
        "payment_from": None,
        "payment_to": None,
        "payment_from_local": None,
        "payment_to_local": None,
    }
    assert found["8"]["person"] is found["8"]["conclusion_group"] is None
    assert (found["9"]["conclusion_group"], found["10"]["conclusion_group"]) == ("voicemail", "other")


async def test_any_engine_may_read_it_and_nobody_is_named_in_it(settings: Settings) -> None:
    async with connect(settings, {}) as sink:
        for first in range(0, 80, 10):
            await sink.write(live(many(80)[first : first + 10], first))
    table = DeltaTable(settings.uri)
    assert tuple(table.protocol())[:2] == (1, 2)
    assert table.metadata().partition_columns == ["date"]
    assert len(table.file_uris()) < 8  # compacted on the way
    contents = [str(row).encode() for row in rows(settings)] + everything(Path(settings.uri))
    assert len(contents) > 80
    for content in contents:
        assert NAME.encode() not in content
        assert MOBILE.encode() not in content


async def test_a_batch_may_come_again_and_repeats_are_passed_over(settings: Settings) -> None:
    events = many(50)
    async with connect(settings, {}) as sink:
        await sink.write(live([*events, events[0]]))
        await sink.write(live([*events, events[0]]))
        await sink.write(live(events[10:30], 51))
        await sink.write([])
    async with connect(settings, {}) as sink:
        await sink.write(live([*events[30:], event("new")], 71))
    await assert_exactly(settings, [*events, event("new")])


async def test_the_memory_is_not_read_anew_for_each_partition(settings: Settings) -> None:
    async with connect(settings, {}) as sink:
        await sink.write(live([event("first")]))
        memory = sink._writing._memory
        for turn in range(3):
            for partition in range(1, 12):
                await sink.write(live([event(f"{partition}-{turn}")], turn, partition))
        assert sink._writing._memory is memory
    assert len(await event_ids(settings)) == 34


async def test_old_live_and_reconciled_results_are_merged(settings: Settings) -> None:
    long_ago = many(20, received=NOW - timedelta(days=10))
    again = many(20, received=NOW - timedelta(days=9))
    reconciled = many(25, source="reconcile")
    async with connect(settings, {}) as sink:
        await sink.write(live(long_ago))
    async with connect(settings, {}) as sink:
        await sink.write(live([*again, *reconciled, event("fresh")], 20))
    await assert_exactly(settings, [*reconciled, event("fresh")])


async def test_a_replay_adds_what_is_missing_and_a_live_copy_behind_it_nothing(settings: Settings) -> None:
    events = many(30)
    async with connect(settings, {}) as sink:
        await sink.write(live(events[:10]))
        await sink.write([Delivery(event("gone"), LIVE, 0, 19)])  # what stood at 10 to 18 was lost here
        await sink.write(replayed(events, range(30)))
        await assert_exactly(settings, [*events, event("gone")])
        await sink.write(live(events[20:], 20))
    await assert_exactly(settings, [*events, event("gone")])
    assert len(await event_ids(settings)) == 31


@pytest.mark.parametrize("age", [timedelta(0), timedelta(days=10)])
async def test_two_writers_of_the_same_partitions_never_double_a_row(settings: Settings, age: timedelta) -> None:
    events = many(200, received=NOW - age)
    async with connect(settings, {}) as one, connect(settings, {}) as other:
        for first in range(0, 200, 20):
            batch = live(events[first : first + 20], first)
            await asyncio.gather(one.write(batch), other.write(batch))
    await assert_exactly(settings, events)
    assert len(await event_ids(settings)) == 200


async def test_a_cancelled_write_ends_before_the_next_begins(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = many(500)
    async with connect(settings, {}) as sink:
        alone, go_on, write = threading.Lock(), threading.Event(), sink._writing.write

        def watched(deliveries: Sequence[Delivery]) -> int:
            assert alone.acquire(blocking=False)
            assert go_on.wait(60)
            version = write(deliveries)
            alone.release()
            return version

        monkeypatch.setattr(sink._writing, "write", watched)
        writing = asyncio.create_task(sink.write(live(events)))
        while not sink._running:
            await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert sink._running  # the thread goes on
        again = asyncio.create_task(sink.write(live(events)))
        await asyncio.sleep(0.05)
        go_on.set()
        await again
    await assert_exactly(settings, events)


_VICTIM = """
import asyncio, structlog, sys
from consumers.sinks.analytics import Settings, connect
from tests.integration.test_analytics import live, event
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
async def main():
    async with connect(Settings(uri=sys.argv[1], pseudonym_key="secret"), {}) as sink:
        for first in range(0, 10_000, 5):
            await sink.write(live([event(str(first + n)) for n in range(5)], first))
            print(first + 5, flush=True)
asyncio.run(main())
"""


async def test_a_writer_killed_in_mid_write_loses_and_doubles_nothing(settings: Settings) -> None:
    written = 0
    for round_ in range(5):
        victim = start_victim(settings.uri)
        assert victim.stdout is not None
        for _ in range(round_ + 2):
            written = max(written, int(victim.stdout.readline()))
        await asyncio.sleep(0.003 * round_)
        victim.kill()
        written = max([written, *(int(line) for line in victim.stdout.read().split())])
        victim.wait()
        victim.stdout.close()
    there = await event_ids(settings)
    assert len(set(there)) == len(there) >= written
    events = many(written + 20, received=NOW)
    async with connect(settings, {}) as sink:
        await sink.write(live(events))
    await assert_exactly(settings, events)
