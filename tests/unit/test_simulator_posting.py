from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from aiohttp import web

from ops.blu.bodies import Callback, callbacks
from ops.blu.clock import SpedUpClock
from ops.blu.ledger import Ledger, LedgerError
from ops.blu.simulator import NO_ANSWER, RETRIES, RETRY_AFTER_S, TIMED_OUT, Manner, Simulator

if TYPE_CHECKING:
    from ops.blu.clock import Clock

SECRET = "/callbacks/secret"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Tolled:
    """A clock that the test reads: it passes as soon as it is asked to, and remembers."""

    def __init__(self) -> None:
        self.waits_s: list[float] = []

    async def wait(self, stopping: asyncio.Event, seconds: float) -> bool:
        self.waits_s.append(seconds)
        await asyncio.sleep(0)
        return stopping.is_set()


class Receiver:
    """A real server that answers as scripted, per body the first, second ... attempt; the last answer repeats."""

    def __init__(self, *script: Answer) -> None:
        self.script = script
        self.bodies: list[bytes] = []
        self.requests: list[web.Request] = []
        self.most_at_once = self._at_once = 0
        self.url = ""

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        attempt = self.bodies.count(body)
        self.bodies.append(body)
        self.requests.append(request)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await self.script[min(attempt, len(self.script) - 1)](request)
        finally:
            self._at_once -= 1

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Receiver]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}{SECRET}"
        try:
            yield self
        finally:
            await runner.cleanup()


def status(code: int, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"code": 200, "message": "success"}, status=code, headers=headers)

    return answer


async def silence(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def made(count: int) -> list[Callback]:
    return list(callbacks(11, date(2026, 11, 24), ZoneInfo("Asia/Kuala_Lumpur"), count))


async def post(
    receiver: Receiver,
    count: int = 1,
    *,
    clock: Clock | None = None,
    manner: Manner | None = None,
    ledger: Ledger | None = None,
) -> tuple[Simulator, Ledger]:
    ledger = ledger or Ledger("demo")
    manner = manner or Manner(rate=10_000)
    async with receiver.serving(), asyncio.timeout(60):
        simulator = Simulator(receiver.url, ledger, clock or Tolled(), manner, asyncio.Event(), lambda: None)
        await simulator.run(made(count))
    return simulator, ledger


async def test_a_callback_is_posted_as_the_page_says() -> None:
    receiver = Receiver(status(200))
    simulator, ledger = await post(receiver)
    (request,) = receiver.requests
    (callback,) = made(1)
    assert (request.method, request.path) == ("POST", SECRET)
    assert dict(request.headers) | {"Host": "", "Content-Length": ""} == {
        "Host": "",
        "Content-Length": "",
        "Content-Type": "application/json;charset=utf-8",
    }
    assert receiver.bodies == [callback.body]
    (entry,) = ledger.entries.values()
    assert (entry.promised, entry.statuses) == (True, [200])
    assert (simulator.delivered, simulator.given_up, len(simulator.latencies_s)) == (1, 0, 1)


@pytest.mark.parametrize("code", [201, 202, 204, 400, 404, 429, 500, 503])
async def test_any_status_but_200_is_retried_every_five_minutes_and_five_times_at_most(code: int) -> None:
    receiver, clock = Receiver(status(code)), Tolled()
    simulator, ledger = await post(receiver, clock=clock)
    assert len(receiver.bodies) == 6
    assert len(set(receiver.bodies)) == 1
    assert clock.waits_s == [RETRY_AFTER_S] * RETRIES == [300] * 5
    (entry,) = ledger.entries.values()
    assert (entry.promised, entry.statuses) == (False, [code] * 6)
    assert (simulator.delivered, simulator.given_up) == (0, 1)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_is_not_followed(code: int) -> None:
    receiver = Receiver(status(code, Location="/elsewhere"), status(200))
    _, ledger = await post(receiver)
    assert [request.path for request in receiver.requests] == [SECRET, SECRET]
    assert next(iter(ledger.entries.values())).statuses == [code, 200]


async def test_a_time_out_is_a_failure() -> None:
    receiver = Receiver(silence, status(200))
    simulator, ledger = await post(receiver, manner=Manner(rate=10_000, timeout_s=0.5))
    *failed, last = next(iter(ledger.entries.values())).statuses
    assert (set(failed), last) == ({TIMED_OUT}, 200)
    assert len(simulator.latencies_s) == 1


async def test_a_connection_that_breaks_before_the_answer_is_a_failure() -> None:
    _, ledger = await post(Receiver(hang_up, status(200)))
    assert next(iter(ledger.entries.values())).statuses == [NO_ANSWER, 200]


async def test_where_nobody_listens_the_result_is_given_up_after_six_attempts() -> None:
    receiver = Receiver(status(200))
    async with receiver.serving():
        pass
    ledger = Ledger("demo")
    simulator = Simulator(receiver.url, ledger, Tolled(), Manner(), asyncio.Event(), lambda: None)
    await simulator.run(made(1))
    assert simulator.statuses == {NO_ANSWER: 6}
    assert ledger.promised() == []


async def test_retries_stop_at_the_first_200() -> None:
    receiver = Receiver(status(503), status(503), status(200))
    _, ledger = await post(receiver, count=20)
    assert len(receiver.bodies) == 60
    assert all(entry.statuses == [503, 503, 200] for entry in ledger.entries.values())


async def test_the_clock_can_be_sped_up() -> None:
    receiver = Receiver(status(503), status(200))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await post(receiver, clock=SpedUpClock(3_000))
    assert 0.1 <= loop.time() - begun < 60  # and not 300


async def test_a_200_that_blu_does_not_hear_is_a_promise_and_is_posted_again() -> None:
    receiver = Receiver(status(200))
    simulator, ledger = await post(receiver, count=200, manner=Manner(rate=10_000, unheard=0.5, seed=1))
    repeated = [len(entry.statuses) for entry in ledger.entries.values() if len(entry.statuses) > 1]
    assert 50 < len(repeated) < 150
    assert max(repeated) <= 6
    assert len(ledger.promised()) == simulator.delivered == 200
    assert simulator.repeated == len(receiver.bodies) - 200


async def test_posts_under_way_are_bounded() -> None:
    fourth, fifth = asyncio.Event(), asyncio.Event()

    async def held(request: web.Request) -> web.StreamResponse:
        if receiver.most_at_once >= 4:
            fourth.set()
        if receiver.most_at_once > 4:
            fifth.set()
        await fourth.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await fifth.wait()
        return await status(200)(request)

    receiver = Receiver(held)
    await post(receiver, count=12, manner=Manner(rate=100_000, concurrency=4))
    assert receiver.most_at_once == 4


async def test_posting_keeps_the_rate_whatever_the_answers_take() -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    simulator, _ = await post(Receiver(status(503), status(200)), count=30, manner=Manner(rate=100))
    assert loop.time() - begun >= 29 / 100
    assert simulator.started == 30


async def test_a_stop_ends_posting_and_retries() -> None:
    stopping, ledger = asyncio.Event(), Ledger("demo")

    async def stop(request: web.Request) -> web.StreamResponse:
        stopping.set()
        return await status(503)(request)

    async with Receiver(stop).serving() as receiver, asyncio.timeout(60):
        simulator = Simulator(receiver.url, ledger, SpedUpClock(1), Manner(rate=1), stopping, lambda: None)
        await simulator.run(made(1_000))
    assert simulator.started < 10
    assert simulator.started == simulator.given_up
    assert all(entry.statuses == [503] for entry in ledger.entries.values())


async def test_the_ledger_names_ids_and_hashes_and_not_a_word_of_the_bodies(tmp_path: Path) -> None:
    path = tmp_path / "simulator" / "ledger.jsonl"
    with Ledger("demo", path) as ledger:
        await post(Receiver(status(503), status(200)), count=50, ledger=ledger)
    text = path.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    calls = [line for line in lines if "body" in line]
    assert [line["body"] for line in calls] == [sha256(callback.body).hexdigest() for callback in made(50)]
    assert [(line["task"], line["record"]) for line in calls] == [(each.task_id, each.record_id) for each in made(50)]
    attempts = [line for line in lines if "attempt" in line]
    assert sorted((line["attempt"], line["status"]) for line in attempts) == [(1, 503)] * 50 + [(2, 200)] * 50
    for callback in made(50):
        record = json.loads(callback.canonical)
        assert record["name"] not in text
        assert record["mobile"] not in text


async def test_a_ledger_is_continued_and_a_line_cut_off_by_a_crash_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger("demo", path) as ledger:
        await post(Receiver(status(200)), count=5, ledger=ledger)
        before = ledger.entries
    with path.open("ab") as file:
        file.write(b'{"event":"cut o')
    with Ledger("demo", path) as ledger:
        assert ledger.entries == before
        await post(Receiver(status(200)), count=7, ledger=ledger)
    with Ledger("demo", path) as ledger:
        assert len(ledger.promised()) == 7
        assert [len(entry.statuses) for entry in ledger.entries.values()] == [2] * 5 + [1] * 2


def test_a_ledger_in_use_or_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger("demo", path), pytest.raises(LedgerError, match="another simulator"):
        Ledger("demo", path)
    path.write_text("what is this\n")
    with pytest.raises(LedgerError, match="no ledger"):
        Ledger("demo", path)
    assert path.read_text() == "what is this\n"
