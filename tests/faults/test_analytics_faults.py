"""The analytics consumer under faults (`make faults`): each prints its counts.

Seen red with its guard removed: the kills without offsets in the commit and without the memory of ids (rows too many),
the zombies with commits that name no transaction versions (rows too many).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consumers.sinks.analytics import Settings, event_ids
from ops.standalone import jars
from schemas import topics
from schemas.blu import BluRecord
from schemas.event import DialResult, dial_result
from tests.integration.delivery import Kafka, own_topics
from tests.services import Broker, free_port

from .crm import ROOT, Member, Nursery, QuickKafka

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

KILLS = int(os.environ.get("FAULTS_ANALYTICS_KILLS", "100"))
ZOMBIES = int(os.environ.get("FAULTS_ANALYTICS_ZOMBIES", "15"))
SESSION_S = 2.0

# A consumer takes seconds to start; one that is forked from a process that has read all its code, milliseconds.
NURSERY = """
import os, signal, sys
from consumers import __main__ as consumers
from consumers.sink import Batching
from consumers.sinks import analytics
from schemas import topics

topics.DIAL_RESULTS = sys.argv[1]
analytics.BATCHING = Batching(max_events=int(sys.argv[2]), linger_s=0.02)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        log = os.open(line.strip(), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os._exit(consumers.main(["analytics"]))
    print(pid, flush=True)
"""


def report(text: str) -> None:
    print(f"\n{text}", flush=True)  # the counts are the result


@contextmanager
def nursery(folder: Path, kafka: Kafka, lake: Settings, max_events: int) -> Iterator[Nursery]:
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "CONSUMER_ADMIN_PORT": "0",
        "CONSUMER_SESSION_TIMEOUT_S": str(SESSION_S),
        "ANALYTICS_URI": lake.uri,
        "ANALYTICS_PSEUDONYM_KEY": "made up",
        "ANALYTICS_COMPACT_EVERY": "4",
    }
    command = [sys.executable, "-c", NURSERY, topics.DIAL_RESULTS, str(max_events)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | settings, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    found = Nursery(process, folder)
    try:
        yield found
    finally:
        for member in found.members:
            if member.alive:
                member.send(signal.SIGKILL)
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def quick_broker() -> Iterator[Broker]:
    with tempfile.TemporaryDirectory(prefix="dial-results-test-", ignore_cleanup_errors=True) as folder:
        broker = Broker(Path(folder))
        broker._kafka = QuickKafka(Path(folder), free_port(), free_port(), jars.classpath())
        try:
            broker.start()
            yield broker
        finally:
            broker.kill()


@pytest.fixture
async def kafka(quick_broker: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kafka]:
    async with own_topics(quick_broker.bootstrap_servers, monkeypatch, "analytics") as found:
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
    ends = await kafka.ends() | await kafka.ends(topics.replay("analytics"))
    async with asyncio.timeout(300):
        while not ends.items() <= (await kafka.committed("analytics")).items():
            await asyncio.sleep(0.1)


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
    with nursery(tmp_path, kafka, lake, 200) as consumers:
        for kill in range(KILLS):
            member = await consumers.start()
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
        await consumers.start()
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
    with nursery(tmp_path, kafka, lake, 500) as consumers:
        for _ in range(ZOMBIES):
            frozen = await consumers.start()
            await frozen.assigned()
            fresh = results(len(events), 3_000)
            events += fresh
            await kafka.publish(fresh)
            await asyncio.sleep(chance.uniform(0.0, 0.25))
            frozen.send(signal.SIGSTOP)
            before = len(set(await event_ids(lake)))
            in_the_middle += before < len(events)
            other = await consumers.start()
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
