"""What is sent first, and what is decoded meanwhile: the parts of the publisher that need no broker."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from receiver.ahead import Ahead
from receiver.batch import first_batches
from receiver.journal import JournaledCallback
from receiver.outgoing import Outgoing
from receiver.window import Window, records_of
from schemas import topics

PARTITIONS = {topics.DIAL_RESULTS: 3, topics.QUARANTINE: 1}
LIMIT_BYTES = 2_000


def outgoing(sequence: int, contact: int, size: int) -> Outgoing:
    text = b"x" * size
    body = b'{"taskId":1,"records":[{"id":"%d","text":"%b"}]}' % (contact, text)
    (made,) = records_of(JournaledCallback(sequence, 1_795_513_596_123, "demo", body))
    return made


RECORDS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3_000)), min_size=1, max_size=25).map(
    lambda drawn: [outgoing(sequence, contact, size) for sequence, (contact, size) in enumerate(drawn)]
)


@given(RECORDS, st.data())
def test_no_record_overtakes_one_of_its_partition_whatever_is_not_acknowledged(
    records: list[Outgoing], data: st.DataObject
) -> None:
    topic: dict[tuple[str, int], list[int]] = defaultdict(list)
    while waiting := [one for one in records if not one.done]:
        batches = first_batches(waiting, PARTITIONS, lambda: BatchBuilder(LIMIT_BYTES, 0))
        assert {one.place(PARTITIONS) for one in waiting} == set(batches)
        for place, batch in batches.items():
            first = [one for one in waiting if one.place(PARTITIONS) == place]
            assert batch.outgoing == first[: len(batch.outgoing)]
            assert len(batch.outgoing) == 1 or len(batch.builder._build()) <= LIMIT_BYTES
            outcome = data.draw(st.sampled_from(["acknowledged", "acknowledged", "failed", "alone"]))
            if outcome == "acknowledged":
                batch.acknowledged()
                topic[place] += [one.callback.sequence for one in batch.outgoing]
            for one in batch.outgoing if outcome == "alone" else ():
                one.alone = True
    assert sorted(sequence for sequences in topic.values() for sequence in sequences) == list(range(len(records)))
    assert all(sequences == sorted(sequences) for sequences in topic.values())


@given(RECORDS)
def test_one_that_goes_alone_has_nobody_beside_it_and_is_not_overtaken(records: list[Outgoing]) -> None:
    for one in records[::2]:
        one.alone = True
    for place, batch in first_batches(records, PARTITIONS, lambda: BatchBuilder(LIMIT_BYTES, 0)).items():
        assert len(batch.outgoing) == 1 or not any(one.alone for one in batch.outgoing)
        assert batch.outgoing == [one for one in records if one.place(PARTITIONS) == place][: len(batch.outgoing)]


class Read:
    """A journal of so many windows, which then fails."""

    def __init__(self, windows: int) -> None:
        self.windows = windows
        self.read = 0
        self.at_once = 0

    async def __call__(self, after: int) -> Window:
        assert after == self.read
        self.at_once += 1
        assert self.at_once == 1, "reading and decoding keep the order of the journal"
        await asyncio.sleep(0)
        self.at_once -= 1
        if self.read == self.windows:
            raise OSError("the disk")
        self.read += 1
        return Window(self.read)


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_windows_are_read_ahead_so_many_and_no_more() -> None:
    read = Read(10)
    ahead = Ahead(read, 0, 2)
    assert not ahead.ready
    await settled()
    assert ahead.ready
    assert read.read == 2
    assert (await ahead.take()).last == 1
    await settled()
    assert read.read == 3
    await ahead.close()


async def test_what_goes_wrong_ahead_is_told_when_everything_before_it_was_taken() -> None:
    ahead = Ahead(Read(2), 0, 3)
    await settled()
    assert [(await ahead.take()).last, (await ahead.take()).last] == [1, 2]
    await settled()
    assert not ahead.ready
    with pytest.raises(OSError, match="the disk"):
        await ahead.take()
    await ahead.close()
