"""What makes a repeat known: the memory by itself, and read from the table when others wrote or too little is known."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.sink import Delivery
from consumers.sinks.analytics import Settings, connect, event_ids, recall
from consumers.sinks.analytics.batch import Batch
from consumers.sinks.analytics.lake import Lake
from consumers.sinks.analytics.memory import Memory, packed
from consumers.sinks.analytics.rows import microseconds
from tests.integration.test_analytics import (
    NOW,
    REPLAY,
    assert_exactly,
    event,
    live,
    many,
    replayed,
    settings,
    start_victim,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["settings"]  # the fixture

SECOND = 1_000_000
HOUR = 3_600 * SECOND


IDS = st.tuples(st.uuids(), st.integers(0, 5 * HOUR), st.integers(0, 2))  # when received, of which partition
Given = list[tuple[uuid.UUID, int, int]]


def add(memory: Memory, given_ids: Given) -> None:
    numbers = np.array([(at, partition) for _, at, partition in given_ids], np.int64).reshape(-1, 2)
    memory.add(packed(str(event_id) for event_id, _, _ in given_ids), numbers[:, 0], numbers[:, 1])


def known(memory: Memory, event_ids: Iterable[object]) -> list[bool]:
    return memory.knows(packed(map(str, event_ids))).tolist()


@given(st.lists(IDS, max_size=60, unique_by=lambda one: one[0]), st.integers(1, 12))
def test_the_memory_knows_all_that_it_claims_to_cover(given_ids: Given, at_once: int) -> None:
    memory, limit = Memory(0, limit=12), 12
    for begin in range(0, len(given_ids), at_once):
        add(memory, given_ids[begin : begin + at_once])
    assert min(limit, len(given_ids)) <= len(memory) <= limit * 5 / 4
    found = known(memory, (event_id for event_id, _, _ in given_ids))
    assert found == [False] * (len(given_ids) - len(memory)) + [True] * len(memory)
    for (_, received_at, partition), is_known in zip(given_ids, found, strict=True):
        if received_at + HOUR >= memory.covered_from(partition):
            assert is_known


@given(st.lists(IDS, max_size=60, unique_by=lambda one: one[0]))
def test_ids_are_taken_up_alike_together_and_one_by_one(given_ids: Given) -> None:
    ids = [event_id for event_id, _, _ in given_ids]
    together, alone = Memory(0, limit=10), Memory(0, limit=10)
    add(together, given_ids)
    for one in given_ids:
        add(alone, [one])
    assert known(together, ids) == known(alone, ids)
    assert [together.covered_from(one) for one in range(3)] == [alone.covered_from(one) for one in range(3)]


def test_forgetting_moves_the_horizon_of_that_partition_alone() -> None:
    memory = Memory(0, limit=4)
    add(memory, [(uuid.uuid4(), 2 * HOUR, 1)])
    for _ in range(4):
        add(memory, [(uuid.uuid4(), 2 * HOUR, 2)])
    assert [memory.covered_from(partition) for partition in (1, 2)] == [HOUR, HOUR]
    add(memory, [(uuid.uuid4(), 2 * HOUR, 2)])
    assert [memory.covered_from(partition) for partition in (1, 2)] == [3 * HOUR + SECOND, HOUR]


def test_ids_that_point_to_one_slot_are_told_apart_by_either_half() -> None:
    memory, same = Memory(0, limit=40), "11111111-1111-8111-8000-0000000000"
    there = [f"{same}{number:02x}" for number in range(1, 9)]  # little-endian words: their last bytes choose no slot
    other_half = [f"2222222{number}{one[8:]}" for number, one in enumerate(there)]
    add(memory, [(uuid.UUID(one), HOUR, 0) for one in there])
    assert known(memory, there) == [True] * 8
    assert known(memory, [*other_half, f"{same}00", f"{same}99", str(uuid.UUID(int=0))]) == [False] * 11
    add(memory, [(uuid.UUID(one), HOUR, 0) for one in other_half])
    assert known(memory, there + other_half) == [True] * 16


async def test_the_newest_are_read_in_the_order_of_their_minutes(settings: Settings) -> None:
    events = [event(str(minute), received=NOW - timedelta(minutes=minute)) for minute in range(300)]
    async with connect(settings, {}) as sink:
        await sink.write(live(events[::-7]))
        await sink.write(live(events, 300))
    lake, horizon_s = Lake(settings), microseconds(NOW) // SECOND - 4 * 3600
    whole = recall.recall(lake, horizon_s, 1000)
    assert 240 <= len(whole) <= 242
    assert whole.covered_from(0) <= microseconds(NOW) - 2 * HOUR
    newest = recall.recall(lake, horizon_s, 100)
    assert known(newest, (one.event_id for one in events)) == [True] * 100 + [False] * 200
    assert newest.covered_from(0) == microseconds(NOW - timedelta(minutes=99)) // (60 * SECOND) * 60 * SECOND + HOUR


@pytest.mark.parametrize("limit", [1, 15, 1000])
@pytest.mark.parametrize("few", [0, 1000])
async def test_however_little_is_known_a_repeat_within_the_hour_is_no_second_row(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, limit: int, few: int
) -> None:
    monkeypatch.setattr(recall, "FEW", few)
    monkeypatch.setattr("consumers.sinks.analytics.writing.FEW", few)
    small = settings.model_copy(update={"memory_ids": limit})
    ages = [timedelta(0), timedelta(days=3), timedelta(hours=5), timedelta(days=30)]
    async with connect(small, {}) as sink:
        for turn, age in enumerate(ages):
            firsts = [event(f"{turn}-{number}", received=NOW - age) for number in range(20)]
            again = [event(f"{turn}-{number}", received=NOW - age + timedelta(minutes=25)) for number in range(20)]
            await sink.write(live(firsts, turn * 50))
            await sink.write(live(again[:10], turn * 50 + 20))
            await sink.write(live([*again, event(f"{turn}-new", received=NOW - age)], turn * 50 + 30))
    assert len(await event_ids(settings)) == len(set(await event_ids(settings))) == 4 * 21


async def test_whoever_gets_a_partition_back_learns_what_others_wrote_meanwhile(settings: Settings) -> None:
    async with connect(settings, {}) as mine, connect(settings, {}) as other:
        await mine.write(live([event("a")]))
        await other.write(live([event("b")], 1))
        await mine.write(live([event("a"), event("b"), event("c")], 2))
        await other.write(live([event("c"), event("b")], 5))
        await other.write(live([event("d")], 7))
        await mine.write(replayed([event("r")], [0]))  # merged, which needs no memory
        await mine.write(live([event("d")], 8))
    await assert_exactly(settings, [event(name) for name in "abcdr"])


async def test_also_what_others_merged_and_did_not_live_to_commit(settings: Settings) -> None:
    lost = event("lost")
    async with connect(settings, {}) as mine, connect(settings, {}) as other:
        await mine.write(live([event("a")], 5))
        assert other._writing._attempt(Batch.of(replayed([lost], [0])), set()) is False  # merged; then it was killed
        await mine.write(live([lost], 6))
        await mine.write([Delivery(lost, REPLAY, 0, 0, "r-1", (0, 0))])
    await assert_exactly(settings, [event("a"), lost])


async def test_a_writer_frozen_while_another_took_over_adds_nothing_when_it_wakes(settings: Settings) -> None:
    victim = start_victim(settings.uri)
    assert victim.stdout is not None
    try:
        for _ in range(20):
            seen = int(victim.stdout.readline())
        os.kill(victim.pid, signal.SIGSTOP)
        async with connect(settings, {}) as sink:
            await sink.write(live(many(seen + 50, received=NOW)))  # what it has in hand, and what comes behind that
            os.kill(victim.pid, signal.SIGCONT)
            for turn in range(1, 10):  # while it wakes: the same results at places of their own
                await sink.write(live(many(seen + 50, received=NOW), turn * (seen + 50)))
        async with asyncio.timeout(60):
            while int(await asyncio.to_thread(victim.stdout.readline)) < seen + 50:
                pass
    finally:
        victim.kill()
        victim.wait()
        victim.stdout.close()
    there = await event_ids(settings)
    assert len(there) == len(set(there))
    assert {one.event_id for one in many(seen + 50)} <= set(there)
