from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from consumers.sinks.storage import Settings, event_ids
from consumers.sinks.storage.migrate import migrate
from schemas import topics
from tests.services import Broker, Database, free_port

from .delivery import Kafka, Memory, ended, event, own_topics, process, running, until, until_committed


@pytest.fixture
async def kafka(broker: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kafka]:
    async with own_topics(broker.bootstrap_servers, monkeypatch, "stdout") as found:
        yield found


STUCK = """
import asyncio, time
from contextlib import asynccontextmanager
from consumers.sinks.stdout import Settings as Base

class Settings(Base, env_prefix="STUCK_"):
    pass

class Sink:
    def __init__(self, path):
        self.path = path

    async def write(self, deliveries):
        self.path.touch()
        await asyncio.shield(asyncio.to_thread(time.sleep, 3600))

@asynccontextmanager
async def connect(settings, merchants):
    yield Sink(settings.path)

async def event_ids(settings):
    return []
"""


def lines(path: Path) -> list[str]:
    return [json.loads(line)["eventId"] for line in path.read_bytes().splitlines()] if path.exists() else []


async def test_killed_in_the_middle_of_a_batch_each_result_is_one_row(
    broker: Any, postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = await asyncio.to_thread(postgres.fresh_database)
    await migrate(dsn)
    settings = Settings(dsn=dsn)
    parts = [[event(part * 3_000 + number, "x" * 1_500) for number in range(3_000)] for part in range(5)]
    choices = random.Random(4)
    async with own_topics(broker.bootstrap_servers, monkeypatch, "storage") as kafka:
        one = await asyncio.to_thread(process, kafka, "storage", STORAGE_DSN=dsn)
        for part in parts[:-1]:
            rows = len(await event_ids(settings))
            await kafka.publish(part)
            async with asyncio.timeout(60):
                while len(await event_ids(settings)) == rows:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(choices.random() * 0.1)
            one.kill()
            await ended(one)
            one = await asyncio.to_thread(process, kafka, "storage", STORAGE_DSN=dsn)
        await kafka.publish(parts[-1])  # so that it is the last process that commits the end
        await until_committed(kafka, "storage")
        one.terminate()
        code, _, _ = await ended(one)
    events = [sent for part in parts for sent in part]
    assert code == 0
    assert Counter(await event_ids(settings)) == Counter(sent.event_id for sent in events)


async def test_frozen_until_the_group_forgot_it_then_woken(
    broker: Any, postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = await asyncio.to_thread(postgres.fresh_database)
    await migrate(dsn)
    settings = {"STORAGE_DSN": dsn, "STORAGE_WRITE_TIMEOUT_S": "3"}
    events = [event(number, "x" * 1_500) for number in range(6_000)]
    async with own_topics(broker.bootstrap_servers, monkeypatch, "storage") as kafka:
        one = await asyncio.to_thread(process, kafka, "storage", **settings)
        publishing = asyncio.create_task(kafka.publish(events))
        async with asyncio.timeout(60):
            while not await event_ids(Settings(dsn=dsn)):
                await asyncio.sleep(0.01)
        one.send_signal(signal.SIGSTOP)
        await publishing
        other = await asyncio.to_thread(process, kafka, "storage", **settings)
        await until_committed(kafka, "storage")  # so the other one has them all, whatever was begun before
        one.send_signal(signal.SIGCONT)
        more = [event(number) for number in range(6_000, 6_500)]
        await kafka.publish(more)
        await until_committed(kafka, "storage")
        for member in (one, other):
            member.terminate()
        codes = [(await ended(member))[0] for member in (one, other)]
    assert codes == [0, 0]
    assert Counter(await event_ids(Settings(dsn=dsn))) == Counter(one.event_id for one in events + more)


async def test_a_clean_stop_waits_for_nothing_and_exits_0(kafka: Kafka, tmp_path: Path) -> None:
    await kafka.publish(event(number) for number in range(100))
    path = tmp_path / "out.jsonl"
    one = await asyncio.to_thread(process, kafka, "stdout", STDOUT_PATH=str(path), CONSUMER_STOP_GRACE_S="3600")
    await until(lambda: len(lines(path)) == 100)
    await until_committed(kafka, "stdout")
    one.send_signal(signal.SIGINT)
    code, out, logged = await ended(one)
    assert code == 0
    assert sorted(json.loads(line)["eventId"] for line in out.splitlines()) == sorted(lines(path))
    assert logged[-1]["event"] == "consumer_stopped"


async def test_a_sink_stuck_in_a_thread_does_not_keep_the_process(
    broker: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "stuck.py").write_text(STUCK)
    async with own_topics(broker.bootstrap_servers, monkeypatch, "stuck") as kafka:
        await kafka.publish([event(1)])
        one = await asyncio.to_thread(process, kafka, "stuck", sinks=tmp_path, STUCK_PATH=str(tmp_path / "writing"))
        await until((tmp_path / "writing").exists)
        one.terminate()
        code, _, logged = await ended(one)  # which would wait for an hour
        assert (code, logged[-1]["event"]) == (0, "consumer_stopped")
        assert await kafka.committed("stuck") == {}


async def test_the_reject_limit_exits_78_and_says_so(kafka: Kafka, tmp_path: Path) -> None:
    for number in range(12):
        await kafka.publish_raw(b"no event", key=str(number).encode())
    one = await asyncio.to_thread(
        process, kafka, "stdout", STDOUT_PATH=str(tmp_path / "out"), CONSUMER_REJECT_LIMIT="10"
    )
    code, _, logged = await ended(one)
    assert code == 78
    assert "more than 10 rejects in a row (not-json)" in logged[-1]["reason"]
    assert await kafka.ends(topics.dead_letter("stdout")) == {}
    assert await kafka.committed("stdout") == {}


async def test_a_missing_topic_exits_75(broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "DIAL_RESULTS", "dial-results-nowhere")
    one = await asyncio.to_thread(process, Kafka(broker.bootstrap_servers, None), "stdout")  # type: ignore[arg-type]
    code, _, logged = await ended(one)
    assert (code, logged[-1]["event"]) == (75, "consumer_stops")
    assert "dial-results topics apply" in logged[-1]["reason"]


async def test_a_bug_exits_1_names_its_place_and_none_of_the_data(kafka: Kafka, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"secret, not ours\n")
    one = await asyncio.to_thread(process, kafka, "stdout", STDOUT_PATH=str(path))
    code, _, logged = await ended(one)
    assert code == 1
    assert logged[-1]["event"] == "process_ends"
    assert "secret" not in json.dumps(logged)


async def test_the_admin_port(kafka: Kafka, tmp_path: Path) -> None:
    port = free_port()
    one = await asyncio.to_thread(
        process, kafka, "stdout", STDOUT_PATH=str(tmp_path / "out"), CONSUMER_ADMIN_PORT=str(port)
    )
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session, asyncio.timeout(60):
        while True:
            try:
                async with session.get("/readyz") as answer:
                    if answer.status == 200:
                        break
                    assert (await answer.json())["reasons"]
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
        async with session.get("/healthz") as answer:
            assert (answer.status, answer.headers.get("Server")) == (200, "")
        async with session.get("/metrics") as answer:
            text = await answer.text()
        async with session.get("/anything") as answer:
            assert answer.status == 404
    for name in ("events_done_total", "lag_events", "sink_available", "replay_lag_events", "write_seconds_bucket"):
        assert f'dial_results_consumer_{name}{{consumer="stdout"' in text
    one.terminate()
    assert (await ended(one))[0] == 0


async def test_check_and_list_and_wrong_usage(kafka: Kafka, tmp_path: Path) -> None:
    async def answer(*arguments: str, **environment: str) -> tuple[int, str]:
        one = await asyncio.to_thread(process, kafka, *arguments, **environment)
        out, err = await asyncio.to_thread(one.communicate, timeout=120)
        return one.returncode, (out + err).decode()

    fine = await answer("stdout", "--check", STDOUT_PATH=str(tmp_path / "out"))
    assert fine == (0, "stdout: settings, topics and destination are fine\n")
    away = await answer("stdout", "--check", STDOUT_PATH=str(tmp_path / "missing" / "out"))
    assert away == (1, "consumers: the destination is away: FileNotFoundError\n")
    code, said = await answer("nothing")
    assert (code, "there are: " in said) == (2, True)
    code, said = await answer("storage", STORAGE_DSN="")
    assert (code, said) == (2, "consumers: STORAGE_DSN: Value error, it begins with postgresql://\n")
    code, said = await answer("stdout", CONSUMER_MERCHANTS_FILE=str(tmp_path / "none.toml"))
    assert (code, "none.toml" in said) == (2, True)
    listed = subprocess.run([sys.executable, "-m", "consumers", "--list"], capture_output=True, check=True)
    assert {"stdout", "storage"} <= set(listed.stdout.decode().split())


async def test_a_broker_that_dies_and_returns_costs_nothing(
    own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory()
    async with own_topics(own_broker.bootstrap_servers, monkeypatch) as kafka, running(kafka, memory) as one:
        await kafka.publish(event(number) for number in range(500))
        await until(lambda: len(memory.effects) == 500, watched=one)
        await asyncio.to_thread(own_broker.kill)
        await until(lambda: one.status.live_lag is None, watched=one)
        await asyncio.to_thread(own_broker.start)
        await kafka.publish(event(number) for number in range(500, 1_000))
        await until(lambda: len(memory.effects) == 1_000, watched=one)
        await until_committed(kafka)
    assert len(set(memory.effects)) == 1_000


async def _healthy(session: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def test_a_stop_does_not_wait_for_kafka(
    own_broker: Broker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with own_topics(own_broker.bootstrap_servers, monkeypatch, "stdout") as kafka:
        path = tmp_path / "out.jsonl"
        one = await asyncio.to_thread(process, kafka, "stdout", STDOUT_PATH=str(path))
        await kafka.publish([event(1)])
        await until(lambda: len(lines(path)) == 1)
        await asyncio.to_thread(own_broker.kill)
        port = free_port()
        other = await asyncio.to_thread(process, kafka, "stdout", STDOUT_PATH=str(path), CONSUMER_ADMIN_PORT=str(port))
        async with aiohttp.ClientSession() as session, asyncio.timeout(60):
            while not await _healthy(session, port):  # then it waits for Kafka
                await asyncio.sleep(0.05)
        began = time.monotonic()
        for member in (one, other):
            member.terminate()
        assert [(await ended(member))[0] for member in (one, other)] == [0, 0]
        assert time.monotonic() - began < 60
        await asyncio.to_thread(own_broker.start)
