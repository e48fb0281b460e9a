"""The delivery loop under faults (`make faults`): members that come and go, a sink that is away, a neighbour's fall."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from consumers import broker as kafka_clients
from consumers.sink import Delivery, SinkUnavailable
from consumers.sinks import storage
from consumers.sinks.storage.migrate import migrate
from ops.standalone.postgres import LocalPostgres
from schemas.event import DialResult
from tests.integration.delivery import (
    PARTITIONS,
    Kafka,
    Memory,
    Running,
    event,
    own_topics,
    running,
    until,
    until_committed,
)
from tests.services import free_port

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

STORM_S = float(os.environ.get("FAULTS_STORM_S", "300"))
OUTAGE_S = float(os.environ.get("FAULTS_OUTAGE_S", "20"))  # twice the time without a poll that the group allows
DOWN_S = float(os.environ.get("FAULTS_DOWN_S", "60"))
CHANGE_S = 5.0
STEADY_S = 15.0
RATE = 400
MEMBER = ContextVar("member", default=0)  # who writes: its tasks have it from the one who started them
LIMIT_S = 120.0  # for what takes a moment, on a machine that has other things to do


def report(text: str) -> None:
    print(f"\n{text}", flush=True)  # the counts are the result


class Narrow(Memory):
    """A destination that takes 2,000 events a second, from whomever they come: 100 at a time, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = asyncio.Lock()
        self.cut_short = 0
        self.writer: int | None = None

    async def write(self, deliveries: Sequence[Delivery]) -> None:
        async with self._turn:
            self.writer = MEMBER.get()
            try:
                await asyncio.sleep(len(deliveries) / 2_000)
            except asyncio.CancelledError:
                self.cut_short += 1
                raise
            finally:
                self.writer = None
            await super().write(deliveries)


async def keep_a_backlog(kafka: Kafka, sink: Narrow, published: list[str]) -> None:
    """Publish so that the destination is what everything waits for."""
    for first in itertools.count(step=2_000):
        some = [event(number) for number in range(first, first + 2_000)]
        await kafka.publish(some)
        published += [one.event_id for one in some]
        while len(published) - len(sink.effects) > 20_000:
            await asyncio.sleep(0.1)


async def leave(sink: Narrow, number: int, member: Running) -> None:
    """Stop in good order, or, every second one, as one that dies in the middle of a write."""
    if number % 2:
        member.stop.set()
    else:
        await until(lambda: sink.writer == number, watched=member)
        member.task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(member.task, LIMIT_S)


async def storm(kafka: Kafka, sink: Narrow) -> int:
    """Let members join and leave every five seconds; return how many did."""
    ends = time.monotonic() + STORM_S
    for number in itertools.count(1):
        MEMBER.set(number)
        member = Running(kafka, sink, max_events=100)
        await asyncio.sleep(CHANGE_S)
        await leave(sink, number, member)
        await asyncio.sleep(CHANGE_S)
        if time.monotonic() > ends:
            return number
    raise AssertionError


async def test_members_that_join_and_leave_every_five_seconds(broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sink, published = Narrow(), list[str]()
    async with own_topics(broker.bootstrap_servers, monkeypatch) as kafka, running(kafka, sink, max_events=100) as one:
        backlog = asyncio.create_task(keep_a_backlog(kafka, sink, published))
        await until(lambda: len(sink.effects) > 2_000, watched=one)
        before, began = len(sink.effects), time.monotonic()
        await asyncio.sleep(STEADY_S)
        steady = (len(sink.effects) - before) / (time.monotonic() - began)
        before, began = len(sink.effects), time.monotonic()
        members = await storm(kafka, sink)
        stormy = (len(sink.effects) - before) / (time.monotonic() - began)
        backlog.cancel()
        await asyncio.wait([backlog])
        await until_committed(kafka, limit_s=LIMIT_S)
    effects = Counter(sink.effects)
    lost, double = len(set(published) - effects.keys()), sum(count > 1 for count in effects.values())
    again = len(sink.deliveries) - len(published)
    report(
        f"storm of {STORM_S:.0f} s: {members} members came and left, {sink.cut_short} writes cut short; "
        f"{len(published)} published, lost {lost}, double {double}, delivered again {again}; "
        f"{stormy:,.0f}/s against {steady:,.0f}/s steady: {stormy / steady:.0%}"
    )
    assert members > 1
    assert sink.cut_short >= members // 2
    assert (lost, double) == (0, 0)
    assert stormy >= 0.3 * steady


class Slow(Memory):
    """A destination that takes 200 events a second of each writer, and any number of writers."""

    async def write(self, deliveries: Sequence[Delivery]) -> None:
        await asyncio.sleep(len(deliveries) / 200)
        await super().write(deliveries)


async def speed(sink: Memory, seconds: float) -> float:
    before, began = len(sink.effects), time.monotonic()
    await asyncio.sleep(seconds)
    return (len(sink.effects) - before) / (time.monotonic() - began)


def is_shared(members: Sequence[Running]) -> bool:
    """Tell whether every partition has one owner, and every member some."""
    shares = [len(one.consumer._fetcher._consumer.assignment()) for one in members]  # type: ignore[union-attr]
    return all(shares) and sum(shares) == 2 * PARTITIONS


async def test_more_members_are_more_speed(broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sink, speeds, all_members = Slow(), list[float](), list[Running]()
    async with own_topics(broker.bootstrap_servers, monkeypatch) as kafka, AsyncExitStack() as members:
        await kafka.publish(event(number) for number in range(15_000))
        for _ in range(PARTITIONS):
            all_members.append(await members.enter_async_context(running(kafka, sink, max_events=20)))
            await until(lambda: all(one.status.joined for one in all_members) and is_shared(all_members), 60)
            speeds.append(await speed(sink, STEADY_S / 3))
    report(f"1, 2 and 3 members on {PARTITIONS} partitions: {', '.join(f'{speed:,.0f}/s' for speed in speeds)}")
    assert speeds[1] > 1.6 * speeds[0]
    assert speeds[2] > 2.2 * speeds[0]


class Server:
    """A PostgreSQL of this test's own, which it may stop."""

    def __init__(self, folder: Path) -> None:
        self._server = LocalPostgres(folder, free_port(), "made-up-password")
        self._server.format()
        self.dsn = self._server.dsn

    async def start(self) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = await asyncio.to_thread(subprocess.Popen, self._server.command(), **quiet)
        await self._server.wait_ready(60)

    async def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        await asyncio.to_thread(self._process.wait, 60)


class Storage:
    """The real sink, as the runner gets it."""

    def __init__(self, dsn: str) -> None:
        self._settings = storage.Settings(dsn=dsn)  # type: ignore[arg-type]

    def connect(self) -> Any:
        return storage.connect(self._settings, {})

    async def ids(self) -> Counter[str]:
        return Counter(await storage.event_ids(self._settings))


@asynccontextmanager
async def database(folder: Path) -> AsyncIterator[Server]:
    server = Server(folder)
    await server.start()
    try:
        await migrate(server.dsn)
        yield server
    finally:
        await server.stop()


async def test_a_database_that_stands_still_longer_than_a_poll_may_take_costs_no_rebalance(
    broker: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kafka_clients, "MAX_POLL_S", OUTAGE_S / 2)
    events = [event(number) for number in range(20_000)]
    async with database(tmp_path) as server, own_topics(broker.bootstrap_servers, monkeypatch) as kafka:
        sink = Storage(server.dsn)
        async with running(kafka, sink) as one:
            await kafka.publish(events[:5_000])
            await until_committed(kafka)
            joins = one.joins
            await server.stop()
            await kafka.publish(events[5_000:])
            await until(lambda: not one.status.sink_available, watched=one)
            with pytest.raises(TimeoutError):
                await until(lambda: not one.status.joined, OUTAGE_S, one)
            waited = one.status.live_lag
            began = time.monotonic()
            await server.start()
            await until_committed(kafka)
            took_s = time.monotonic() - began
            found = await sink.ids()
            report(
                f"PostgreSQL stopped for {OUTAGE_S:.0f} s, twice the time without a poll that the group allows: "
                f"{one.joins - joins} rebalances, {waited} waiting at the end, caught up {took_s:.1f} s after its "
                f"start; rows {found.total()}, events {len(events)}"
            )
            assert waited == 15_000
            assert one.joins == joins
            assert found == Counter(sent.event_id for sent in events)


async def publish_steadily(kafka: Kafka, seconds: float) -> list[DialResult]:
    """Publish at an even rate."""
    events, began = list[DialResult](), time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        some = [event(number) for number in range(len(events), int(passed * RATE))]
        await kafka.publish(some)
        events += some
        await asyncio.sleep(0.05)
    return events


async def sample_lag(members: Sequence[Running], samples: list[list[int]]) -> None:
    while True:
        await asyncio.sleep(1)
        samples.append([one.status.live_lag or 0 for one in members])


async def test_one_sink_that_is_down_is_nothing_to_the_others(
    broker: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    down, other, samples = Memory(), Memory(), list[list[int]]()
    down.away = SinkUnavailable("down")
    names = ("real", "other", "down")
    async with (
        database(tmp_path) as server,
        own_topics(broker.bootstrap_servers, monkeypatch, *names) as kafka,
        running(kafka, Storage(server.dsn), name="real") as first,
        running(kafka, other, name="other") as second,
        running(kafka, down, name="down") as third,
    ):
        members = (first, second, third)
        await until(lambda: all(one.status.live_lag == 0 for one in members))
        sampling = asyncio.create_task(sample_lag(members, samples))
        events = await publish_steadily(kafka, DOWN_S)
        sampling.cancel()
        await asyncio.wait([sampling])
        await until_committed(kafka, "real")
        await until_committed(kafka, "other")
        rows = await Storage(server.dsn).ids()
    lags = list(zip(*samples, strict=True))
    half = len(samples) // 2
    halves = [(mean(lag[:half]), mean(lag[half:])) for lag in lags]
    shown = ", ".join(f"{name} {a:.0f} and {b:.0f}" for name, (a, b) in zip(names, halves, strict=True))
    report(
        f"one of three sinks down for {DOWN_S:.0f} s at {RATE} events/s: {len(events)} events; mean lag in the first "
        f"and the second half: {shown}; "
        f"most: {', '.join(f'{n} {max(lag)}' for n, lag in zip(names, lags, strict=True))}"
    )
    assert rows == Counter(sent.event_id for sent in events)
    assert len(other.effects) == len(events)
    assert max(lags[2]) > 0.8 * len(events), "the fault happened"
    assert max(*lags[0], *lags[1]) < 2 * RATE
    assert all(second <= first + RATE / 2 for first, second in halves[:2])
