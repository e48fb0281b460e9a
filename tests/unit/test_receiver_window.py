from __future__ import annotations

import asyncio
import itertools
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver import window as window_module
from receiver.journal import JournaledCallback
from receiver.outgoing import Outgoing
from receiver.recent import Recent
from receiver.window import BUSY, CALM, Window, decode_window, records_of
from schemas import topics, wire

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["id", "taskId", "records", "x"]) | st.text(), inner)
    ),
)
BODIES = st.binary() | ANY_JSON.map(lambda value: json.dumps(value).encode())


def callback(body: bytes, sequence: int = 1) -> JournaledCallback:
    return JournaledCallback(sequence, 1_795_513_596_123, "demo", body)


async def decoded(*bodies: bytes) -> Window:
    return await decode_window([callback(body, number) for number, body in enumerate(bodies, 1)], Recent())


@given(BODIES)
def test_every_body_makes_results_or_is_kept_whole_or_is_empty(body: bytes) -> None:
    made = records_of(callback(body))
    for outgoing in made:
        if outgoing.topic == topics.QUARANTINE:
            assert outgoing.record.value == body
            assert outgoing.reason
        else:
            assert wire.decode(outgoing.record.value).merchant == "demo"
    if not made:
        assert json.loads(body)["records"] == []


async def test_a_window_counts_what_becomes_of_its_callbacks() -> None:
    good = b'{"taskId":1,"records":[{"id":"a"}]}'
    window = await decoded(good, b"?", b'{"taskId":1,"records":[]}', b'{"taskId":1,"records":[{"id":"b"},{}]}', good)
    assert (window.last, window.callbacks) == (5, 5)
    assert window.published() == {"demo": 3}
    assert window.decoded() == 3
    assert window.quarantined() == {"not-json": 1}
    assert window.quarantine_records() == {"not-json": 1, "no-id": 1}
    assert window.empty == 1
    assert window.repeats == 1


@given(st.lists(BODIES, min_size=1, max_size=5), st.data())
async def test_every_callback_is_decoded_or_quarantined_or_empty(bodies: list[bytes], data: st.DataObject) -> None:
    window = await decoded(*bodies)
    for outgoing in window.outgoing:
        if outgoing.topic == topics.DIAL_RESULTS and data.draw(st.booleans()):
            outgoing.set_aside()
    assert window.decoded() + window.quarantined().total() + window.empty == window.callbacks


async def test_a_record_set_aside_leaves_the_others_in_their_order() -> None:
    window = await decoded(*(b'{"taskId":1,"records":[{"id":"a","n":%d}]}' % number for number in range(3)))
    window.outgoing[1].set_aside()
    assert [outgoing.topic for outgoing in window.outgoing] == [
        topics.DIAL_RESULTS,
        topics.QUARANTINE,
        topics.DIAL_RESULTS,
    ]
    assert dict(window.outgoing[1].record.headers)["reason"] == b"too-large"
    window.outgoing[0].done = True
    assert window.waiting() == window.outgoing[1:]
    partitions = {topics.DIAL_RESULTS: 12, topics.QUARANTINE: 3}
    assert [outgoing.place(partitions) for outgoing in window.waiting()] == [
        (topics.QUARANTINE, topics.partition_of(b"demo", 3)),
        (topics.DIAL_RESULTS, topics.partition_of(b"demo:a", 12)),
    ]


async def turns_of_others(*bodies: bytes) -> int:
    """Count how often somebody else ran while the bodies were decoded."""
    turns, done = 0, False

    async def other() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await decoded(*bodies)
    done = True
    await task
    return turns


async def test_many_small_bodies_let_others_run_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count(step=BUSY.stretch_s / 10)  # as if each took a tenth of a stretch
    monkeypatch.setattr(window_module.time, "perf_counter", lambda: next(seconds))
    assert await turns_of_others(*[b'{"taskId":1,"records":[{"id":"a"}]}'] * 400) >= 30


async def test_a_large_body_lets_others_run_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is decoded in a thread, which waits here until somebody else has run: it would wait for ever otherwise."""
    others_ran, records_of = threading.Event(), window_module.records_of

    def slowly(one: JournaledCallback) -> list[Outgoing]:
        assert others_ran.wait(60)
        return records_of(one)

    monkeypatch.setattr(window_module, "records_of", slowly)
    large = json.dumps({"taskId": 1, "records": [{"id": "a", "text": "x" * 40_000}]}).encode()
    decoding = asyncio.create_task(decoded(large))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.01, others_ran.set)
    assert (await decoding).decoded() == 1


async def test_at_a_calm_pace_the_processor_rests_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []

    async def sleep(seconds: float) -> None:
        rests.append(seconds)

    seconds = itertools.count(step=CALM.stretch_s / 10)
    monkeypatch.setattr(window_module.time, "perf_counter", lambda: next(seconds))
    monkeypatch.setattr(window_module.asyncio, "sleep", sleep)
    await decode_window([callback(b'{"taskId":1,"records":[{"id":"a"}]}')] * 400, Recent(), pace=CALM)
    assert len(rests) >= 30
    assert set(rests) == {CALM.rest_s}
    assert CALM.rest_s >= CALM.stretch_s
