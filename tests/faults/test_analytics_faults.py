"""The analytics consumer under faults (`make faults`): each prints its counts.

Seen red with its guard removed: the kills without offsets in the commit and without the memory of ids (rows too many),
the zombies with commits that name no transaction versions (rows too many).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consumers.sinks.analytics import Settings, event_ids
from schemas import topics
from schemas.blu import BluRecord
from schemas.event import DialResult, dial_result
from tests.integration.delivery import Kafka

from . import members
from .members import Member, Nursery, report, until_done

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

KILLS = int(os.environ.get("FAULTS_ANALYTICS_KILLS", "100"))
ZOMBIES = int(os.environ.get("FAULTS_ANALYTICS_ZOMBIES", "15"))


@contextmanager
def nursery(folder: Path, kafka: Kafka, lake: Settings) -> Iterator[Nursery]:
    settings = {"URI": lake.uri, "PSEUDONYM_KEY": "made up", "COMPACT_EVERY": "4"}
    named = {f"ANALYTICS_{name}": value for name, value in settings.items()}
    with members.nursery(folder, kafka, "analytics", linger_s=0.02, **named) as found:
        yield found


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    return Settings(uri=str(tmp_path / "lake" / "results"), pseudonym_key="made up")


def results(first: int, count: int) -> list[DialResult]:
    now_ms = int(time.time() * 1_000)
    records = ((str(number), b'{"conclusion":"HPTP","id":%d}' % number) for number in range(first, first + count))
    return [dial_result("demo", "1", BluRecord(0, name, content), now_ms) for name, content in records]


async def settled(kafka: Kafka) -> None:
    """Wait until the group has committed everything that stands in both topics."""
    for topic in (topics.DIAL_RESULTS, topics.replay("analytics")):
        await until_done(kafka, "analytics", topic)


async def counted(lake: Settings, events: list[DialResult]) -> tuple[int, int]:
    """Return how many rows there are too many, and how many are missing."""
    there, wanted = await event_ids(lake), {one.event_id for one in events}
    return len(there) - len(set(there)) + len(set(there) - wanted), len(wanted - set(there))


async def killed(member: Member, after_s: float) -> None:
    await member.assigned()
    await asyncio.sleep(after_s)
    member.send(signal.SIGKILL)
    await member.ended()


async def test_kill_9_at_random_points_doubles_and_loses_no_row(kafka: Kafka, lake: Settings, tmp_path: Path) -> None:
    events: list[DialResult] = []
    chance, again, replays = random.Random(4), 0, 0
    with nursery(tmp_path, kafka, lake) as consumers:
        for kill in range(KILLS):
            member = await consumers.start(200)
            fresh = results(len(events), 600)
            events += fresh
            await kafka.publish(fresh)
            repeats = chance.sample(events[-3_000:], 60)  # Blu did not see the answer, and sends once more
            await kafka.publish(repeats)
            again += len(repeats)
            if kill % 5 == 0:
                some = chance.sample(events[:-600] or events, 20)
                await kafka.publish(some, topics.replay("analytics"), replay_id="r-1")
                replays += len(some)
            await killed(member, chance.uniform(0.0, 0.5))
        await consumers.start(200)
        await settled(kafka)
        tidied = consumers.logged().count("table_not_tidied")
    extra, missing = await counted(lake, events)
    report(
        f"{KILLS} x kill -9 of the analytics consumer: {len(events)} results, {again} repeats, {replays} replays: "
        f"extra {extra}, missing {missing}; upkeep failed {tidied} times"
    )
    assert (extra, missing, tidied) == (0, 0, 0)


async def test_a_zombie_adds_no_row_when_it_wakes(kafka: Kafka, lake: Settings, tmp_path: Path) -> None:
    events: list[DialResult] = []
    chance, in_the_middle = random.Random(5), 0
    with nursery(tmp_path, kafka, lake) as consumers:
        for _ in range(ZOMBIES):
            frozen = await consumers.start(500)
            await frozen.assigned()
            fresh = results(len(events), 3_000)
            events += fresh
            await kafka.publish(fresh)
            await asyncio.sleep(chance.uniform(0.0, 0.25))
            frozen.send(signal.SIGSTOP)
            before = len(set(await event_ids(lake)))
            in_the_middle += before < len(events)
            other = await consumers.start(500)
            await other.assigned()  # the session of the frozen one has ended
            await settled(kafka)
            frozen.send(signal.SIGCONT)
            more = results(len(events), 200)
            events += more
            await kafka.publish([*more, *chance.sample(fresh, 50)])
            await settled(kafka)
            for member in (frozen, other):
                member.send(signal.SIGTERM)
            for member in (frozen, other):
                await member.ended()
    extra, missing = await counted(lake, events)
    report(
        f"{ZOMBIES} zombies of the analytics consumer, {in_the_middle} with work in hand: {len(events)} results: "
        f"extra {extra}, missing {missing}"
    )
    assert (extra, missing) == (0, 0)
    assert in_the_middle, "none was frozen in the middle of its work: this proves nothing"
