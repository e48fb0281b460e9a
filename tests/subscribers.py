"""Runs the subscribers of docs/subscribing.md, as their readers would: the text of the page, an address, a group."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas import topics, wire
from schemas.event import DialResult
from schemas.testing import events_of
from tests.services import create_topics

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/subscribing.md"
DOCUMENTED = (ROOT / "tests/unit/data/documented-body.txt").read_bytes()
LIMIT_S = 150

_EVENT_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b")


def snippet(language: str, chapter: str) -> str:
    """Return the code of one language in one chapter of the page."""
    text = PAGE.read_text().split(f"# {chapter}\n", 1)[1]
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found, f"no {language} in {chapter}"
    return found[1]


def wheel(folder: Path) -> Path:
    """Build the kit as it is published."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(ROOT / "schemas")], check=True, capture_output=True, timeout=LIMIT_S)
    (built,) = folder.glob("dial_results_client-*.whl")
    return built


def result(record_id: str, age: timedelta = timedelta(), name: str = "Anoj Mohoo") -> DialResult:
    """The documented callback of one contact, received so long ago."""
    body = DOCUMENTED.replace(b"55667448", record_id.encode()).replace(b"Anoj Mohoo", name.encode())
    return events_of(body, received_at=datetime.now(UTC) - age)[0]


@dataclass
class Place:
    """A topic of its own on a real broker, and the group of one subscriber."""

    servers: str
    topic: str = field(default_factory=lambda: f"subscribing-{uuid.uuid4().hex[:8]}")
    group: str = field(default_factory=lambda: f"team-{uuid.uuid4().hex[:8]}")

    def fill_in(self, code: str) -> str:
        for text, ours in (("127.0.0.1:9092", self.servers), ("dial-results", self.topic), ("my-team", self.group)):
            code = re.sub(rf"""(["'`]){re.escape(text)}\1""", rf"\g<1>{ours}\g<1>", code)
        assert self.servers in code
        return code.replace(", since=", f', topic="{self.topic}", since=')  # the kit knows the topic's name by itself

    async def publish(self, *events: DialResult) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.servers, acks="all") as producer:
            for record in map(wire.encode, events):
                place = topics.partition_of(record.key, topics.PARTITIONS)
                await producer.send_and_wait(
                    self.topic, record.value, record.key, place, record.timestamp_ms, headers=record.headers
                )

    async def lag(self, *events: DialResult) -> int:
        """Count what the group has not committed on the partitions of these events."""
        places = list({TopicPartition(self.topic, topics.partition_of(one.key, topics.PARTITIONS)) for one in events})
        async with AIOKafkaConsumer(
            bootstrap_servers=self.servers, group_id=self.group, enable_auto_commit=False
        ) as client:
            ends, begun = await client.end_offsets(places), await client.beginning_offsets(places)
            done = [await client.committed(place) for place in places]
        return sum(ends[place] - (begun[place] if at is None else at) for place, at in zip(places, done, strict=True))


async def receives_dedupes_and_starts_yesterday(
    place: Place, command: list[str], folder: Path, env: dict[str, str] | None = None
) -> int | None:
    """Hold a program to what the page says of it. It prints the event id of each result that it works on.

    Returns its exit code after a SIGTERM.
    """
    await create_topics(place.servers, **{place.topic: topics.PARTITIONS})
    wanted = [result(number, timedelta(hours=3)) for number in "1234"]
    old = [result(number, timedelta(days=2), "Old Mohoo") for number in "156"]
    await place.publish(*old, wanted[0], wanted[1], wanted[0])
    async with AsyncExitStack() as stack:
        errors = stack.enter_context((folder / "errors").open("wb"))
        program = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=env, stdout=asyncio.subprocess.PIPE, stderr=errors
        )
        stack.push_async_callback(_end, program)
        printed = await _printed(program, {wanted[0].event_id, wanted[1].event_id}, folder)
        await place.publish(wanted[1], wanted[2], wanted[0], wanted[3])
        printed += await _printed(program, {wanted[2].event_id, wanted[3].event_id}, folder)
        await _committed(place, *wanted)
    assert sorted(printed) == sorted(one.event_id for one in wanted)
    return program.returncode


async def _printed(program: asyncio.subprocess.Process, wanted: set[str], folder: Path) -> list[str]:
    assert program.stdout
    lines: list[str] = []
    try:
        async with asyncio.timeout(LIMIT_S):
            while not wanted <= set(lines):
                line = await program.stdout.readline()
                assert line, f"it ended: {(folder / 'errors').read_text()[-2000:]}"
                if printed := _EVENT_ID.match(line.decode()):  # what else it prints is its client's log
                    lines.append(printed[0])
    except TimeoutError:
        raise AssertionError(f"came: {lines}; {(folder / 'errors').read_text()[-2000:]}") from None
    return lines


async def _committed(place: Place, *events: DialResult) -> None:
    until = time.monotonic() + LIMIT_S
    while (lag := await place.lag(*events)) > 0:
        assert time.monotonic() < until, f"{lag} records are not committed"
        await asyncio.sleep(0.2)


async def _end(program: asyncio.subprocess.Process) -> None:
    if program.returncode is None:
        program.terminate()
    await program.communicate()
