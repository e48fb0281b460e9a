"""The storage consumer under faults (`make faults`): each prints its counts.

Seen red with its guard removed: the kills and the cuts without the primary key (extra rows), the zombies likewise, with
no repeats among the results (7,550 extra rows of 18,000 in 3), the stopped database without polling while the buffer is
full (rebalances). What holds the others up while a process is frozen in the middle
of a COPY is seen in tests/integration/test_storage.py, red without `_END_FROZEN`.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from consumers.sinks.storage.migrate import migrate
from schemas.event import DialResult
from tests.integration.delivery import Kafka, event

from .members import Member, report, until, until_done
from .storage import Cutter, Outcome, Server, nursery

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

KILLS = int(os.environ.get("FAULTS_STORAGE_KILLS", "100"))
ZOMBIES = int(os.environ.get("FAULTS_STORAGE_ZOMBIES", "20"))
CUTS = int(os.environ.get("FAULTS_STORAGE_CUTS", "40"))
DOWN_S = float(os.environ.get("FAULTS_STORAGE_DOWN_S", "20"))
"""Longer than `max_poll_interval_ms`, which is 5 s in that test."""


def results(first: int, count: int, chance: random.Random) -> list[DialResult]:
    """Make new results, and repeats of a tenth as many that may be anywhere before them."""
    new = [event(number, "x" * chance.randrange(2_000)) for number in range(first, first + count)]
    return new + chance.sample(new, count // 10)


async def test_kill_9_at_random_points_leaves_each_result_once(kafka: Kafka, dsn: str, tmp_path: Path) -> None:
    chance, events = random.Random(1), []
    with nursery(tmp_path, kafka, dsn) as consumers:
        member = await consumers.start(200)
        for kill in range(KILLS):
            some = results(kill * 2_000, 2_000, chance)
            some += chance.sample(events, min(len(events), 200))
            events += some
            await kafka.publish(some)
            await member.assigned()
            await asyncio.sleep(chance.uniform(0.0, 0.4))
            member.send(signal.SIGKILL)
            await member.ended()
            member = await consumers.start(200)
        await until_done(kafka, "storage")
    outcome = await Outcome.of(dsn, events)
    report(f"{KILLS} x kill -9 of the storage consumer: {len(events)} records, {outcome}")
    assert (outcome.extra, outcome.missing) == (0, 0)
    assert outcome.rows == len({one.event_id for one in events})


async def test_frozen_processes_leave_no_second_row_and_hold_nobody_up(kafka: Kafka, dsn: str, tmp_path: Path) -> None:
    chance, events = random.Random(2), []
    with nursery(tmp_path, kafka, dsn, write_timeout_s=2) as consumers:
        for zombie in range(ZOMBIES):
            frozen = await consumers.start(5_000)
            await frozen.assigned()
            some = results(zombie * 6_000, 6_000, chance)
            events += some
            publishing = asyncio.create_task(kafka.publish(some))
            await asyncio.sleep(chance.uniform(0.1, 0.8))
            frozen.send(signal.SIGSTOP)
            await publishing
            other = await consumers.start(5_000)
            await until_done(kafka, "storage")
            frozen.send(signal.SIGCONT)
            await asyncio.sleep(0.5)  # it goes on with what it was about to do
            for member in (frozen, other):
                member.send(signal.SIGTERM)
            for member in (frozen, other):
                await member.ended()
        refused = consumers.logged().count("commit_refused")
    outcome = await Outcome.of(dsn, events)
    report(f"{ZOMBIES} zombies: {len(events)} records, {refused} commits refused, {outcome}")
    assert (outcome.extra, outcome.missing) == (0, 0)


async def test_a_connection_that_is_cut_at_commit_has_one_effect(kafka: Kafka, dsn: str, tmp_path: Path) -> None:
    chance, events = random.Random(3), []
    cutter = Cutter(dsn)
    async with cutter.listening(dsn) as through:
        with nursery(tmp_path, kafka, through) as consumers:
            await consumers.start(200)
            for cut in range(CUTS):
                cutter.planned = [chance.choice(("before", "after"))]
                some = results(cut * 300, 300, chance)
                events += some
                await kafka.publish(some)
                await until(lambda: not cutter.planned)
                await until_done(kafka, "storage")
            away = consumers.logged().count("sink_unavailable")
    outcome = await Outcome.of(dsn, events)
    report(f"{CUTS} cuts at COMMIT ({dict(cutter.cuts)}), {away} x unavailable: {len(events)} records, {outcome}")
    assert (outcome.extra, outcome.missing) == (0, 0)
    assert min(cutter.cuts["before"], cutter.cuts["after"]) > CUTS / 5


def rebalances(member: Member) -> int:
    return member.log.read_text().count("partitions_revoked")


async def test_a_database_that_is_stopped_for_long_costs_no_rebalance(kafka: Kafka, tmp_path: Path) -> None:
    chance, server = random.Random(4), Server(tmp_path / "postgres")
    await server.start()
    try:
        await migrate(server.dsn)
        with nursery(tmp_path, kafka, server.dsn, max_poll_s=5) as consumers:
            member = await consumers.start(200)
            events = results(0, 1_000, chance)
            await kafka.publish(events)
            await until_done(kafka, "storage")
            before = rebalances(member)
            server.stop()
            began = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() < began + DOWN_S:
                some = results(len(events), 200, chance)
                events += some
                await kafka.publish(some)
                await asyncio.sleep(0.2)
            assert member.alive
            await server.start()
            again = asyncio.get_running_loop().time()
            await until_done(kafka, "storage")
            caught_up_s = asyncio.get_running_loop().time() - again
            after = rebalances(member)
        outcome = await Outcome.of(server.dsn, events)
    finally:
        server.stop()
    report(
        f"PostgreSQL stopped for {DOWN_S:.0f} s: {len(events)} records, caught up {caught_up_s:.1f} s after its start, "
        f"{after - before} rebalances, {outcome}"
    )
    assert (outcome.extra, outcome.missing) == (0, 0)
    assert after == before
    assert "sink_unavailable" in member.log.read_text()
    assert caught_up_s < 30
