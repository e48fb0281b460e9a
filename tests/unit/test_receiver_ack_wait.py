"""Answers that wait for a broker that is not there: they go out all the same, and none is refused for it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from receiver.ack_wait import AckWait
from receiver.counts import Counts

from .receivers import BODY, post, running, until
from .test_receiver_fast_lane import _hang_up, connect, keep_alive  # noqa: F401  # it is a fixture

LONG_MS = 30_000


@pytest.fixture(params=[True, False], ids=["fast", "ordinary"])
def fast_lane(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_without_the_broker_the_answer_comes_after_the_wait(tmp_path: Path, *, fast_lane: bool) -> None:
    async with running(tmp_path, broker_ack_wait_ms=300, fast_lane=fast_lane) as one:
        client = await connect(one)
        for waits in (1, 2):
            began_s = time.monotonic()
            assert (await client.ask(keep_alive())).status == 200
            assert time.monotonic() - began_s >= 0.29
            assert one.receiver.counts.ack_waits_over == waits
        assert one.receiver.journal.waiting == 2


async def test_a_stop_lets_the_waiting_answers_go(tmp_path: Path, *, fast_lane: bool) -> None:
    async with running(tmp_path, broker_ack_wait_ms=LONG_MS, fast_lane=fast_lane) as one:
        client = await connect(one)
        asked = asyncio.create_task(client.ask(keep_alive()))
        await until(lambda: one.receiver.journal.waiting == 1)
        assert not asked.done()
        stopping_s = time.monotonic()
    answer = await asked
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    assert time.monotonic() - stopping_s < 25  # by itself it would have gone after 30 s
    assert one.exit_code == 0


async def test_more_waiting_answers_than_may_wait_are_let_go_and_none_is_refused(
    tmp_path: Path, *, fast_lane: bool
) -> None:
    async with running(tmp_path, broker_ack_wait_ms=LONG_MS, fast_lane=fast_lane, in_flight_cap=8) as one:
        clients = [await connect(one) for _ in range(40)]
        asked = []
        for client in clients:
            asked.append(asyncio.create_task(client.ask(keep_alive())))
            await until(lambda: one.receiver.journal.last == len(asked))
        await until(lambda: sum(ask.done() for ask in asked) == 36)
        assert all(ask.result().status == 200 for ask in asked[:36])
        assert not one.receiver.counts.refused


async def test_a_sender_that_hangs_up_while_it_waits_troubles_nobody(tmp_path: Path, *, fast_lane: bool) -> None:
    async with running(tmp_path, broker_ack_wait_ms=300, fast_lane=fast_lane) as one:
        client = await connect(one)
        client.writer.write(keep_alive())
        await until(lambda: one.receiver.journal.waiting == 1)
        client.writer.transport.abort()
        assert (await one.ask(post(BODY))).status == 200
        await until(lambda: one.receiver.callbacks.in_flight == 0)


async def test_a_refusal_does_not_wait(tmp_path: Path, *, fast_lane: bool) -> None:
    async with running(tmp_path, broker_ack_wait_ms=LONG_MS, fast_lane=fast_lane, body_cap_bytes=10) as one:
        assert (await one.post()).status == 413


async def test_answers_go_in_order_each_once() -> None:
    went: list[int] = []
    waits = AckWait(10, 100, Counts())
    for sequence in range(1, 7):
        waits.hold(sequence, lambda sequence=sequence: went.append(sequence))  # type: ignore[misc]
    waits.published(3)
    assert went == [1, 2, 3]
    waits.hold(3, lambda: went.append(33))
    waits.end()
    waits.hold(7, lambda: went.append(7))
    waits.published(9)
    assert went == [1, 2, 3, 33, 4, 5, 6, 7]
