from __future__ import annotations

import asyncio

import pytest

from consumers.sinks.crm.limiter import SlidingWindow
from tests.crm import ManualClock


async def test_no_window_ever_holds_more_calls_than_allowed() -> None:
    clock = ManualClock()
    window = SlidingWindow(5, 10.0, clock)
    started: list[float] = []

    async def call() -> None:
        async with window.place():
            started.append(clock.now())

    tasks = [asyncio.create_task(call()) for _ in range(23)]
    for _ in range(100):
        await clock.move(0.7)
    assert len(started) == 23
    for start in started:
        assert sum(start <= other < start + 10.0 for other in started) <= 5
    await asyncio.gather(*tasks)


async def test_all_of_the_limit_is_used() -> None:
    clock = ManualClock()
    window = SlidingWindow(5, 10.0, clock)
    started: list[float] = []

    async def call() -> None:
        async with window.place():
            started.append(clock.now())

    async with asyncio.TaskGroup() as calls:
        for _ in range(15):
            calls.create_task(call())
        for _ in range(21):
            await clock.move(1.0)
    assert started == [*[1.0] * 5, *[11.0] * 5, *[21.0] * 5]


async def test_a_place_is_held_until_a_window_after_the_end_of_its_call() -> None:
    clock = ManualClock()
    window = SlidingWindow(1, 10.0, clock)
    answered = asyncio.Event()
    started: list[float] = []

    async def call(until: asyncio.Event | None) -> None:
        async with window.place():
            started.append(clock.now())
            if until:
                await until.wait()

    async with asyncio.TaskGroup() as calls:
        calls.create_task(call(answered))
        await clock.move(0)
        calls.create_task(call(None))
        await clock.move(9.0)
        answered.set()
        await clock.move(0)
        await clock.move(9.9)
        assert started == [0.0]
        await clock.move(0.1)
        assert started == [0.0, 19.0]


async def test_a_cancelled_wait_takes_no_place() -> None:
    clock = ManualClock()
    window = SlidingWindow(1, 10.0, clock)

    async def call() -> None:
        async with window.place():
            pass

    await call()
    waiting = asyncio.create_task(call())
    await clock.move(1.0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    next_one = asyncio.create_task(call())
    await clock.move(9.0)
    assert next_one.done()
