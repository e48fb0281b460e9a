from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaTimeoutError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from consumers import dead_letter
from consumers.buffer import Buffer
from consumers.errors import Interrupted, StandsStill, TooManyRejects
from consumers.finding import UnfitSink, find, names
from consumers.received import Received, receive, receive_all
from consumers.records import Record, make_records_light
from consumers.rejects import Outcome, RejectRun
from consumers.sink import Batching
from consumers.status import Status
from consumers.tenure import Tenure
from consumers.watch import UNKNOWN_S, Watchdog
from schemas import topics, wire
from schemas.backoff import Backoff
from schemas.blu import BluRecord
from schemas.event import dial_result


def received(offset: int, size: int = 10, partition: int = 0) -> Received:
    value = b"x" * size
    record: Any = ConsumerRecord("dial-results", partition, offset, 0, 0, None, value, None, -1, size, ())
    return Received(record, None, "not-json")


def offsets(batch: list[Received]) -> list[int]:
    return [one.record.offset for one in batch]


async def test_a_batch_is_never_more_than_the_sink_wants_but_always_something() -> None:
    buffer = Buffer(Batching(max_events=3, max_bytes=100))
    buffer.add([received(0, 60), received(1, 60), received(2, 500), received(3), received(4), received(5), received(6)])
    assert buffer.room == 0
    assert [offsets(await buffer.take()) for _ in range(4)] == [[0], [1], [2], [3, 4, 5]]
    assert buffer.room == 2
    assert offsets(await buffer.take()) == [6]
    assert buffer.room == 3


@given(st.lists(st.lists(st.integers(0, 300), max_size=8), max_size=8), st.integers(1, 5), st.integers(1, 400))
def test_batches_hold_every_record_once_in_order_within_the_bounds(
    fetches: list[list[int]], max_events: int, max_bytes: int
) -> None:
    async def gather() -> None:
        buffer, taken, offset = Buffer(Batching(max_events, max_bytes)), [], 0
        for sizes in fetches:
            buffer.add([received(offset + number, size) for number, size in enumerate(sizes)])
            offset += len(sizes)
            while not buffer.room:
                taken.append(await buffer.take())
        while sum(map(len, taken)) < offset:
            taken.append(await buffer.take())
        assert [one for batch in taken for one in offsets(batch)] == list(range(offset))
        for batch in taken:
            size = sum(len(one.record.value or b"") for one in batch)
            assert len(batch) <= max_events
            assert size <= max_bytes or len(batch) == 1

    asyncio.run(gather())


async def test_a_sink_that_pays_by_the_call_is_given_time_for_a_fuller_batch() -> None:
    buffer = Buffer(Batching(max_events=3, linger_s=0.2))
    buffer.add([received(0)])
    began = time.monotonic()
    taking = asyncio.create_task(buffer.take())
    await asyncio.sleep(0)
    buffer.add([received(1)])
    assert offsets(await taking) == [0, 1]
    assert time.monotonic() - began >= 0.19


async def test_a_full_batch_does_not_wait() -> None:
    buffer = Buffer(Batching(max_events=3, linger_s=3_600))
    buffer.add([received(0), received(1), received(2)])
    async with asyncio.timeout(60):
        assert offsets(await buffer.take()) == [0, 1, 2]


async def test_a_shut_buffer_holds_and_takes_nothing() -> None:
    buffer = Buffer(Batching(max_events=2))
    buffer.add([received(0), received(1)])
    buffer.shut()
    buffer.add([received(2)])
    assert buffer.room == 2
    buffer.open()
    buffer.add([received(3)])
    assert offsets(await buffer.take()) == [3]


def test_what_a_replay_says_of_its_original_is_a_place_or_nothing() -> None:
    def original(partition: bytes, offset: bytes) -> tuple[int, int] | None:
        headers = ((topics.ORIGINAL_PARTITION, partition), (topics.ORIGINAL_OFFSET, offset))
        content = BluRecord(0, "1", b"{}")
        value = wire.encode(dial_result("demo", "1", content, 0)).value
        record: Any = ConsumerRecord("replay", 0, 0, 0, 0, None, value, None, -1, len(value), headers)
        delivery = receive(record).delivery
        assert delivery
        return delivery.original

    assert original(b"2", b"9" * 18) == (2, 10**18 - 1)
    for odd in (b"", b"-1", b"9" * 19, b"9" * 5_000, b"1.0", "\u0662".encode()):
        assert original(b"2", odd) is None
        assert original(odd, b"2") is None


def test_a_delivery_tells_whether_it_was_sent_again_by_hand() -> None:
    sent = wire.encode(dial_result("demo", "1", BluRecord(0, "1", b"{}"), 0))
    for headers, resent in (
        (sent.headers, False),
        ([*sent.headers, (topics.RESENT, b"2026-11-24T03:14:15.926Z")], True),
    ):
        record: Any = ConsumerRecord(
            topics.DIAL_RESULTS, 0, 0, 0, 0, sent.key, sent.value, None, -1, len(sent.value), headers
        )
        for received in (receive(record), *receive_all([record, record])):
            assert received.delivery
            assert received.delivery.resent is resent


class StuckProducer:
    """Takes some, then stands still; what it took fails later, as it does while Kafka is away."""

    def __init__(self, takes: int) -> None:
        self.taken: list[asyncio.Future[object]] = []
        self._takes = takes

    async def send(self, *_: object, **__: object) -> asyncio.Future[object]:
        if len(self.taken) == self._takes:
            await asyncio.get_running_loop().create_future()
        self.taken.append(asyncio.get_running_loop().create_future())
        return self.taken[-1]


async def test_dead_letters_cut_short_leave_no_failure_that_nobody_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letter, "SEND_S", 0.05)
    producer: Any = StuckProducer(takes=2)
    strays: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: strays.append(context))
    with pytest.raises(TimeoutError):
        await dead_letter.DeadLetters(producer, "any", "1").send(outcomes("xxx"))
    for one in producer.taken:
        one.set_exception(KafkaTimeoutError())
    await asyncio.sleep(0)
    producer.taken.clear()
    del one
    gc.collect()
    assert not strays


def outcomes(text: str, first: int = 0) -> list[Outcome]:
    """`.` is durable, `x` a reject."""
    return [Outcome(received(first + number), "bad" if mark == "x" else None, 1) for number, mark in enumerate(text)]


def placed(found: list[Outcome]) -> list[int]:
    return offsets([one.received for one in found])


def test_a_run_of_rejects_is_held_until_it_ends() -> None:
    run = RejectRun(limit=3)
    assert placed(run.judge(outcomes("x.xx"))) == [0]
    assert placed(run.held) == [2, 3]
    assert placed(run.judge(outcomes("x", 4))) == []
    assert placed(run.judge(outcomes(".", 5))) == [2, 3, 4]
    assert run.held == []


def test_a_run_over_the_limit_stops_the_consumer_however_slowly_it_came() -> None:
    run = RejectRun(limit=3)
    run.judge(outcomes("xx"))
    assert placed(run.release()) == [0, 1]
    run.judge(outcomes("x", 2))
    with pytest.raises(TooManyRejects, match=r"more than 3 .*\(bad\)"):
        run.judge(outcomes("x", 3))
    run.clear()
    assert run.judge(outcomes("xxx")) == []


async def test_the_end_of_a_tenure_ends_all_waiting_and_waits_for_work() -> None:
    tenure = Tenure()
    tenure.begin()
    number = tenure.number
    waiting = asyncio.create_task(tenure.pause(600))
    await asyncio.sleep(0)
    with tenure:
        assert not await tenure.end(0.05), "the work took longer"
    with pytest.raises(Interrupted):
        await waiting
    with pytest.raises(Interrupted):
        tenure.check(number)
    assert await tenure.end(0.05)


def test_the_watchdog_bites_only_where_there_is_work_a_healthy_sink_and_no_step() -> None:
    now = [0.0]
    dog = Watchdog(90, lambda: now[0])

    def look_for(status: Status, seconds: int) -> None:
        for _ in range(seconds):
            now[0] += 1
            dog.look(status)

    busy = Status(sink_available=True, waiting=1)
    look_for(busy, 90)
    busy.steps += 1
    look_for(busy, 90)
    look_for(Status(sink_available=False, waiting=1, steps=1), 1_000)
    look_for(Status(sink_available=True, live_lag=9, waiting=0, steps=1), 1_000)
    with pytest.raises(StandsStill, match="nothing moved for 90 s"):
        look_for(Status(sink_available=True, waiting=5, steps=1), 92)


def test_the_watchdog_bites_when_kafka_says_nothing_for_long() -> None:
    now = [0.0]
    dog = Watchdog(90, lambda: now[0])
    now[0] = UNKNOWN_S
    dog.look(Status(sink_available=True))
    now[0] += 1
    with pytest.raises(StandsStill, match="Kafka has not said"):
        dog.look(Status(sink_available=True))


def test_waits_grow_are_spread_and_never_shorter_than_asked() -> None:
    backoff = Backoff(first_s=1, most_s=8)
    for failures, most in [(1, 1), (2, 2), (4, 8), (1_000_000, 8)]:
        waits = {backoff.wait_s(failures) for _ in range(50)}
        assert all(most / 2 <= wait <= most for wait in waits)
        assert len(waits) > 1
    assert all(5 <= backoff.wait_s(1, asked_s=5) <= 5.2 for _ in range(50))


def test_a_sink_that_is_not_there_is_said_with_those_that_are() -> None:
    assert "stdout" in names()
    assert find("stdout").batching == Batching()
    with pytest.raises(UnfitSink, match="stdout"):
        find("nothing")


def test_records_made_light_say_what_aiokafkas_own_say(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 10_000)
    for number, (key, value, headers) in enumerate(
        ((b"key", b"value", [("re-sent", b"now")]), (None, b"", []), (b"", None, [("a", b""), ("a", b"2")]))
    ):
        batch.append(number, 1_795_490_055_926 + number, key, value, headers)
    fetched = (40).to_bytes(8, "big") + bytes(batch.build())[8:]  # the place of its first

    def read() -> list[Any]:
        place = TopicPartition("dial-results", 7)
        found = fetcher.PartitionRecords(place, MemoryRecords(fetched), [], 41, None, None, True, 0)
        records = list(found)
        assert found.next_fetch_offset == 43
        names = ("topic", "partition", "offset", "timestamp", "key", "value")
        return [([getattr(one, name) for name in names], list(one.headers), type(one)) for one in records]

    theirs = read()
    monkeypatch.setattr(fetcher, "PartitionRecords", fetcher.PartitionRecords)  # to be put back
    make_records_light()
    ours = read()
    assert [one[:2] for one in ours] == [one[:2] for one in theirs]
    assert len(ours) == 2, "the first is before what was asked for"
    assert {one[2] for one in ours} == {Record}
