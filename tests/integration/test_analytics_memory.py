"""What makes a repeat known: the memory by itself, and read from the table when others wrote or too little is known."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.sink import Delivery
from consumers.sinks.analytics import Settings, connect, event_ids, recall
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

__all__ = ["settings"]  # the fixture

SECOND = 1_000_000
HOUR = 3_600 * SECOND


IDS = st.tuples(st.uuids(), st.integers(0, 5 * HOUR), st.integers(0, 2))  # when received, of which partition


@given(st.lists(IDS, max_size=40, unique_by=lambda one: one[0]))
def test_the_memory_knows_all_that_it_claims_to_cover(given_ids: list[tuple[uuid.UUID, int, int]]) -> None:
    known = Memory(0, limit=10)
    for event_id, received_at, partition in given_ids:
        known.add([event_id.bytes], [received_at], [partition])
    assert len(known) == min(10, len(given_ids))
    assert [event_id.bytes in known for event_id, _, _ in given_ids[-10:]] == [True] * len(known)
    for event_id, received_at, partition in given_ids:
        if received_at + HOUR >= known.covered_from(partition):
            assert event_id.bytes in known


@given(st.lists(IDS, max_size=40, unique_by=lambda one: one[0]))
def test_ids_are_taken_up_alike_together_and_one_by_one(given_ids: list[tuple[uuid.UUID, int, int]]) -> None:
    ids = packed(str(event_id) for event_id, _, _ in given_ids)
    assert ids == [event_id.bytes for event_id, _, _ in given_ids]
    together, alone = Memory(0, limit=10), Memory(0, limit=10)
    together.add(ids, [at for _, at, _ in given_ids], [partition for _, _, partition in given_ids])
    for event_id, at, partition in given_ids:
        alone.add([event_id.bytes], [at], [partition])
    assert [one in together for one in ids] == [one in alone for one in ids]
    assert [together.covered_from(one) for one in range(3)] == [alone.covered_from(one) for one in range(3)]


def test_forgetting_moves_the_horizon_of_that_partition_alone() -> None:
    known = Memory(0, limit=1)
    known.add([uuid.uuid4().bytes], [2 * HOUR], [1])
    assert known.covered_from(1) == HOUR
    known.add([uuid.uuid4().bytes], [2 * HOUR], [2])
    assert known.covered_from(1) == 3 * HOUR + SECOND
    assert known.covered_from(2) == HOUR


def test_an_id_that_stands_across_two_entries_is_not_known() -> None:
    known = Memory(0, limit=10)
    first, second = bytes(14) + b"\xab\xcd", bytes(16)
    known.add([first, second], [0x01020304 * SECOND, 0], [0x0506, 0])
    across = bytes.fromhex("abcd010203040506" + "00" * 6)  # the first's end and the second's beginning
    assert b"\0\0" + across not in known
    assert first in known
    assert second in known


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
    assert [one in newest for one in packed(one.event_id for one in events)] == [True] * 100 + [False] * 200
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
        assert (
            other._writing._attempt([(replayed([lost], [0])[0], microseconds(NOW), packed([lost.event_id])[0])], set())
            is False
        )  # merged; then it was killed
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
        async with asyncio.timeout(30):
            while int(await asyncio.to_thread(victim.stdout.readline)) < seen + 50:
                pass
    finally:
        victim.kill()
        victim.wait()
        victim.stdout.close()
    there = await event_ids(settings)
    assert len(there) == len(set(there))
    assert {one.event_id for one in many(seen + 50)} <= set(there)
