"""Holds every sink to the contract in `consumers/sink.py`. It finds them by itself: a new sink needs no change here."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from consumers.finding import FoundSink, find, names
from consumers.sink import Delivery, EventsRejected, Sink, SinkUnavailable
from schemas import topics, wire
from schemas.blu import BluRecord
from schemas.event import DialResult, InvalidRecord, dial_result
from schemas.exact import canonical, decode
from schemas.merchants import Merchant
from tests.services import Database

from .destinations import DESTINATIONS, Destination, default

LIMIT_S = 120.0
PARTITIONS = 3
MERCHANTS = {"demo": Merchant(name="demo")}
HOSTILE: list[Any] = [
    "",
    " ",
    "\0",
    "a\0b",
    "\x01\x1f\x7f\x85\u2028",
    "\ufeff\ufffe\uffff",
    "\U0001f600\U0010ffff",
    "'; DROP TABLE dial_result; --",
    '"\\"\n\r\t,;|\\N\\.',
    "=HYPERLINK(1)",
    "\u202eevil\u202c",
    "x" * 100_000,
    "\u202e\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301",
    "1e400",
    None,
    True,
    [],
    {},
    [[[[[[1]]]]]],
    {"": {"": ""}},
    {"a\0b": "c\0d", "'": '"', "\U0001f600": 1},
    -1,
    0,
    10**30,
    0.1,
]
# What our receiver never writes and another producer might: a sink takes it, rejects it, or leaves it to `record()`.
UNHOLDABLE = [
    b'{"id":"bad","duration":1e99999999999999999999}',
    b'{"id":"bad","name":1%b}' % (b"0" * 5_000),
    b'{"id":"bad","name":"one","name":"two"}',
]
EXACT = ['{"n":1e400}', '{"n":1.50}', '{"n":-0.0}', '{"n":123456789012345678901234567890.123456789}', '"\\u0000"']


class Log:
    """Gives events their places, as Kafka does: a place is never given twice."""

    def __init__(self) -> None:
        self._ends = dict.fromkeys(range(PARTITIONS), 0)

    def append(self, *events: DialResult) -> list[Delivery]:
        return [self._place(event) for event in events]

    def _place(self, event: DialResult) -> Delivery:
        partition = topics.partition_of(event.key, PARTITIONS)
        self._ends[partition] += 1
        return Delivery(event, topics.DIAL_RESULTS, partition, self._ends[partition] - 1)


class Subject:
    """A sink with its destination."""

    def __init__(self, module: FoundSink, destination: Destination) -> None:
        self.module = module
        self.destination = destination
        self.settings = module.settings()
        self.log = Log()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Sink]:
        """Connect as the runner does: try again while the destination is away."""
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(LIMIT_S):
                while True:
                    try:
                        sink = await stack.enter_async_context(self.module.connect(self.settings, MERCHANTS))
                        break
                    except SinkUnavailable as away:
                        await asyncio.sleep(away.retry_after_s or 0.05)
            yield sink

    async def holds(self, events: Sequence[DialResult]) -> None:
        """Assert that the destination holds exactly these events, each once."""
        found = await self.module.event_ids(self.settings)
        assert sorted(found) == sorted({event.event_id for event in events})


async def settle(sink: Sink, deliveries: Sequence[Delivery]) -> dict[str, str]:
    """Write until settled, as the runner does; return what was rejected."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                await sink.write(deliveries)
            except SinkUnavailable as away:
                await asyncio.sleep(away.retry_after_s or 0.05)
            except EventsRejected as rejected:
                return rejected.reasons
            else:
                return {}


async def erase(sink: Sink, record_id: str, merchant: str = "demo") -> str:
    """Erase until done, as the runner does; return what remains."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                return await sink.erase(merchant, record_id)
            except SinkUnavailable as away:
                await asyncio.sleep(away.retry_after_s or 0.05)


@pytest.fixture(params=names())
async def subject(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Subject]:
    def postgres() -> Database:
        found: Database = request.getfixturevalue("postgres")
        return found

    monkeypatch.chdir(tmp_path)
    name = str(request.param)
    async with DESTINATIONS.get(name, default)(postgres, tmp_path) as destination:
        for variable, value in destination.environment.items():
            monkeypatch.setenv(variable, value)
        yield Subject(find(name), destination)


def event(number: int, record_id: str = "", **fields: Any) -> DialResult:
    """Make an event of a contact of its own: of one contact's results a sink may keep the newest alone."""
    identifier = record_id or f"contact-{number}"
    content = canonical(decode(json.dumps({"id": identifier, "number": number} | fields)))
    return dial_result("demo", "task-1", BluRecord(0, identifier, content), int(time.time() * 1000) - 60_000 + number)


def events(count: int, first: int = 0) -> list[DialResult]:
    return [event(number) for number in range(first, first + count)]


async def test_an_empty_batch_is_nothing(subject: Subject) -> None:
    async with subject.open() as sink:
        await sink.write(())
        some = events(3)
        await settle(sink, subject.log.append(*some))
        await sink.write([])
    await subject.holds(some)


async def test_the_same_batch_again_and_by_a_successor(subject: Subject) -> None:
    some = events(40)
    batch = subject.log.append(*some)
    async with subject.open() as sink:
        assert await settle(sink, batch) == {}
        assert await settle(sink, batch) == {}
    async with subject.open() as sink:
        assert await settle(sink, batch) == {}
    await subject.holds(some)


async def test_batches_that_overlap(subject: Subject) -> None:
    some = events(60)
    batch = subject.log.append(*some)
    async with subject.open() as sink:
        await settle(sink, batch[:30])
        await settle(sink, batch[10:50])
        await settle(sink, batch[45:])
    async with subject.open() as sink:
        await settle(sink, batch[5:])
    await subject.holds(some)


async def test_an_event_that_came_twice_stands_twice_in_a_batch_and_comes_again_later(subject: Subject) -> None:
    some = events(20)
    async with subject.open() as sink:
        await settle(sink, subject.log.append(*some, *some[:10]))
        await settle(sink, subject.log.append(*some[5:], *some[5:]))
    await subject.holds(some)


async def test_a_replay_of_what_is_there_changes_nothing(subject: Subject) -> None:
    some = events(20)
    batch = subject.log.append(*some)
    async with subject.open() as sink:
        await settle(sink, batch)
        again = [
            Delivery(
                one.event,
                topics.replay("any"),
                one.partition,
                offset,
                "r-1",
                (one.partition, one.offset),
                one.offset + 1,
            )
            for offset, one in enumerate(batch)
        ]
        await settle(sink, again)
    await subject.holds(some)


async def test_one_bad_event_is_rejected_alone(subject: Subject) -> None:
    if subject.destination.bad_record_id is None:
        pytest.skip("this sink takes every event")
    good = events(3)
    bad = event(99, subject.destination.bad_record_id)
    async with subject.open() as sink:
        reasons = await settle(sink, subject.log.append(good[0], bad, *good[1:]))
        assert reasons.keys() == {bad.event_id}
        assert all(reason and len(reason) < 60 and "\0" not in reason for reason in reasons.values())
        await settle(sink, subject.log.append(event(100)))
    await subject.holds([*good, event(100)])


async def test_a_destination_that_is_away_is_unavailable(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    if subject.destination.away is None:
        pytest.skip("nothing is known about where this destination is not")
    for variable, value in subject.destination.away.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SinkUnavailable) as away:
        async with asyncio.timeout(LIMIT_S), subject.module.connect(subject.module.settings(), MERCHANTS) as sink:
            await sink.write(subject.log.append(event(1)))
    assert away.value.reason


@pytest.mark.parametrize("delay_s", [0.0, 0.002, 0.005, 0.01, 0.02, 0.05])
async def test_a_write_that_is_cancelled_in_the_middle_and_repeated(subject: Subject, delay_s: float) -> None:
    some = events(200)
    batch = subject.log.append(*some)
    async with subject.open() as sink:
        await settle(sink, batch[:10])
        writing = asyncio.create_task(settle(sink, batch))
        await asyncio.wait((writing,), timeout=delay_s)
        writing.cancel()
        await asyncio.wait((writing,), timeout=LIMIT_S)
        assert writing.done(), "a cancelled write ends"
        await settle(sink, batch)
    async with subject.open() as sink:
        await settle(sink, batch)
    await subject.holds(some)


async def test_hostile_values_are_kept_or_rejected_and_break_nothing(subject: Subject) -> None:
    hostile = [
        event(number, name=value, mobile=value, conclusion=value, callTime=value, duration=value, extVars=value)
        for number, value in enumerate(HOSTILE)
    ]
    for number, text in enumerate(EXACT):
        content = f'{{"extVars":{text},"id":"exact-{number}","name":{text}}}'.encode()
        record = BluRecord(0, f"exact-{number}", content)
        hostile.append(dial_result("demo", "task-1", record, int(time.time() * 1000)))
    hostile += [event(1000 + number, value) for number, value in enumerate(["'", '"', "\\", "💥", "é" * 256, "0", " "])]
    long = "x" * 1_000_000
    hostile += [event(2001, extVars={"note": long}), event(2002, note=long)]
    hostile += [event(2003, name=long), event(2004, name=long)]  # a CRM is sent names: a call of over 1 MB
    async with subject.open() as sink:
        batch = subject.log.append(*hostile)
        reasons = await settle(sink, batch)
        assert await settle(sink, batch) == reasons
    await subject.holds([one for one in hostile if one.event_id not in reasons])
    assert len(reasons) < len(hostile) / 2, "most of this is odd, not impossible"


@pytest.mark.parametrize("content", UNHOLDABLE, ids=range(len(UNHOLDABLE)))
async def test_what_no_reader_can_hold_does_not_stop_the_others(subject: Subject, content: bytes) -> None:
    good = events(4)
    bad = dial_result("demo", "task-1", BluRecord(0, "bad", content), int(time.time() * 1000))
    assert wire.decode(wire.encode(bad).value) == bad, "the delivery loop hands it over"
    batch = subject.log.append(*good[:2], bad, *good[2:])
    async with subject.open() as sink:
        try:
            kept = [] if await settle(sink, batch) else [bad]
        except InvalidRecord:
            kept = []
            assert not readable(bad), "only where `record()` does"
            assert await settle(sink, [one for one in batch if one.event is not bad]) == {}
    await subject.holds([*good, *kept])


def readable(one: DialResult) -> bool:
    try:
        one.record()
    except InvalidRecord:
        return False
    return True


async def test_two_writers_race_for_the_same_events(subject: Subject) -> None:
    some = events(300)
    batch = subject.log.append(*some)
    async with subject.open() as first, subject.open() as second:

        async def write(sink: Sink, step: int) -> None:
            for begin in range(0, len(batch), step):
                await settle(sink, batch[begin : begin + step])

        await asyncio.gather(write(first, 50), write(second, 30))
    await subject.holds(some)


async def test_a_full_batch_of_the_size_that_the_sink_asks_for(subject: Subject) -> None:
    some = events(min(subject.module.batching.max_events, 5_000))
    async with subject.open() as sink:
        await settle(sink, subject.log.append(*some))
    await subject.holds(some)


async def test_an_erased_contact_is_gone_and_nobody_else(subject: Subject) -> None:
    some = events(30)
    person = [event(100 + number, "the-erased") for number in range(5)]
    async with subject.open() as sink:
        await settle(sink, subject.log.append(*some[:20]))
        for one in person:  # each the newest when it comes: a sink that keeps the newest alone has all of them
            await settle(sink, subject.log.append(one))
        await subject.holds(some[:20] + person)
        await erase(sink, "the-erased")
        await subject.holds(some[:20])
        await settle(sink, subject.log.append(*some))
        await erase(sink, "the-erased")
    async with subject.open() as sink:
        await settle(sink, subject.log.append(*some))
        await erase(sink, "the-erased")
    await subject.holds(some)


async def test_a_contact_that_was_never_there_is_erased_all_the_same(subject: Subject) -> None:
    async with subject.open() as sink:
        for name in ("nobody", "it's", 'say "no"', "no\0text", "\U0001f600", "%2f/../?#", " "):
            await erase(sink, name)
        await settle(sink, subject.log.append(event(1)))
        await erase(sink, "contact-")
        await erase(sink, "contact-1", merchant="other")
    await subject.holds([event(1)])


@pytest.mark.parametrize("delay_s", [0.0, 0.005, 0.02])
async def test_what_a_cancelled_write_brings_in_late_is_erased_too(subject: Subject, delay_s: float) -> None:
    some = [event(number, "the-erased" if number % 2 else "") for number in range(40)]
    async with subject.open() as sink:
        await settle(sink, subject.log.append(event(1000)))
        writing = asyncio.create_task(settle(sink, subject.log.append(*some)))
        await asyncio.wait((writing,), timeout=delay_s)
        writing.cancel()
        await asyncio.wait((writing,), timeout=LIMIT_S)
        await erase(sink, "the-erased")
        await settle(sink, subject.log.append(*some[::2]))
    await subject.holds([event(1000), *some[::2]])


def test_every_sink_of_the_folder_is_tested() -> None:
    folder = Path(__file__).parents[2] / "consumers" / "sinks"
    modules = {path.stem for path in folder.iterdir() if path.stem.isidentifier() and path.stem[0] != "_"}
    assert set(names()) == modules >= {"stdout", "storage"}
