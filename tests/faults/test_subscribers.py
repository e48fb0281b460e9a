"""Subscribers written from docs/subscribing.md alone, with nothing of this repository. Slow for what they install."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from schemas.testing import event
from tests.contract.test_subscribe import InKafka
from tests.services import Broker, create_topics
from tests.subscribers import Place, receives_dedupes_and_starts_yesterday, snippet, wheel
from tests.tools import npm_install, tool

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

KILLS = int(os.environ.get("FAULTS_KILLS", "6"))
KAFKAJS = "kafkajs@2.2.4"
FRANZ_GO = "github.com/twmb/franz-go@v1.22.2"


class AnyBroker(Protocol):
    bootstrap_servers: str


@pytest.fixture
def place(broker: AnyBroker) -> Place:
    return Place(broker.bootstrap_servers)


async def test_python_in_an_empty_environment(place: Place, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, timeout=120)
    python = str(tmp_path / "venv/bin/python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel(tmp_path))]
    subprocess.run(install, check=True, timeout=300)
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    )
    names = {line.split("==")[0] for line in listed.stdout.split()} - {"pip", "setuptools"}
    print(f"\nin the environment: {', '.join(sorted(names))}")
    assert "dial-results-client" in names
    assert not names & {"pydantic", "aiohttp", "prometheus-client", "structlog", "orjson"}
    (tmp_path / "subscriber.py").write_text(place.fill_in(snippet("python", "In Python, with the kit")))
    env = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    assert await receives_dedupes_and_starts_yesterday(place, [python, "subscriber.py"], tmp_path, env) == 0


async def test_node(place: Place, tmp_path: Path) -> None:
    npm_install(tmp_path, KAFKAJS)
    (tmp_path / "subscriber.js").write_text(place.fill_in(snippet("javascript", "In Node")))
    env = os.environ | {"KAFKAJS_NO_PARTITIONER_WARNING": "1"}
    await receives_dedupes_and_starts_yesterday(place, [tool("node", "runs it"), "subscriber.js"], tmp_path, env)


async def test_go(place: Place, tmp_path: Path) -> None:
    go = tool("go", "builds it")
    (tmp_path / "main.go").write_text(place.fill_in(snippet("go", "In Go")))
    for arguments in (["mod", "init", "subscriber"], ["get", FRANZ_GO], ["mod", "tidy"], ["build", "-o", "subscriber"]):
        done = subprocess.run([go, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode and arguments[0] == "get":
            pytest.skip(f"SKIPPED: franz-go cannot be had: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr
    await receives_dedupes_and_starts_yesterday(place, [str(tmp_path / "subscriber")], tmp_path)


async def test_the_kit_lives_through_a_broker_that_is_killed(own_broker: Broker) -> None:
    """Nothing is lost and, in one process, nothing comes twice, however often Kafka goes away under the loop."""
    topic = InKafka(own_broker.bootstrap_servers, "killed")
    await create_topics(own_broker.bootstrap_servers, killed=3)
    worked: Counter[str] = Counter()

    async def work() -> None:
        async with topic.subscribe("team", max_batch=20) as results:
            async for batch in results:
                worked.update(one.record_id for one in batch)

    subscriber = asyncio.create_task(work())
    for kill in range(1, KILLS + 1):
        await topic.publish(*(event(str(number)) for number in range((kill - 1) * 100, kill * 100)))
        if kill % 2:  # with records to come, and with none
            await _until(lambda wanted=kill * 100: len(worked) >= wanted or subscriber.done())
        await asyncio.to_thread(own_broker.kill)
        await asyncio.to_thread(own_broker.start)
    await topic.publish(event("last"))
    await _until(lambda: "last" in worked or subscriber.done())
    await _until(lambda: len(worked) > KILLS * 100 or subscriber.done())
    subscriber.cancel()
    await asyncio.gather(subscriber, return_exceptions=True)
    print(f"\n{KILLS} kills of the broker: {len(worked)} results, {worked.total() - len(worked)} of them twice")
    assert len(worked) == KILLS * 100 + 1
    assert worked.total() == len(worked)
    assert await topic.lag("team") == 0


async def _until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not reached():
            await asyncio.sleep(0.05)
