"""The delivery loop and erasures: suppressed before the first write, erased in the sink, a receipt left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from consumers.erasing import ReceiptsAway
from consumers.receipts import PostgresReceipts
from consumers.sink import SinkUnavailable
from consumers.sinks.storage.migrate import migrate
from schemas import topics
from schemas.erasure import Erasure
from tests.services import Broker, Database

from .delivery import Kafka, Memory, event, own_topics, running, until, until_committed


class Receipts:
    """In memory; `away`: not to be had."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.remains: list[str] = []
        self.away = False

    async def left(self) -> set[str]:
        return set(self.ids)

    async def leave(self, erasure: Erasure, remains: str) -> None:
        if self.away:
            raise ReceiptsAway("away")
        self.ids.append(erasure.erasure_id)
        self.remains.append(remains)


@pytest.fixture
async def kafka(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kafka]:
    async with own_topics(broker.bootstrap_servers, monkeypatch) as found:
        yield found


async def test_a_contact_is_erased_and_left_out_from_then_on_live_and_replayed(kafka: Kafka) -> None:
    memory, receipts = Memory(), Receipts()
    person, others = event(7), [event(number) for number in range(5)]
    async with running(kafka, memory, receipts=receipts) as one:
        await kafka.publish([person, *others])
        await until(lambda: len(memory.effects) == 6, watched=one)
        asked = await kafka.erase("7")
        await until(lambda: receipts.ids == [asked], watched=one)
        assert sorted(memory.effects) == sorted(other.event_id for other in others)
        await kafka.publish([person, event(7, "a later call"), event(8)])
        await kafka.publish([person], topics.replay("memory"), replay_id="r-1")
        await until_committed(kafka)
        await until_committed(kafka, topic=topics.replay("memory"))
        assert len(memory.effects) == 6
        assert one.metrics.suppressed._value.get() == 3
    assert receipts.ids == [asked]


async def test_a_consumer_that_lags_knows_of_the_erasure_before_its_first_write(kafka: Kafka) -> None:
    await kafka.publish([event(7), event(8)])
    asked = await kafka.erase("7")
    memory, receipts = Memory(), Receipts()
    async with running(kafka, memory, receipts=receipts) as one:
        await until(lambda: receipts.ids == [asked], watched=one)
        await until_committed(kafka)
    assert [delivered.event.record_id for delivered in memory.deliveries] == ["8"]
    async with running(kafka, memory, receipts=receipts):  # what has its receipt is not done again
        await kafka.publish([event(9)])
        await until(lambda: len(memory.effects) == 2)
    assert (memory.erasures, receipts.ids) == (["7"], [asked])


async def test_a_sink_and_receipts_that_are_away_are_waited_for(kafka: Kafka) -> None:
    memory, receipts = Memory(), Receipts()
    receipts.away = True
    async with running(kafka, memory, receipts=receipts) as one:
        await kafka.publish([event(7)])
        await until(lambda: memory.effects, watched=one)
        memory.away = SinkUnavailable("gone")
        asked = await kafka.erase("7")
        await kafka.publish([event(8)])
        memory.away = None
        await until(lambda: memory.erasures == ["7"], watched=one)
        await until(lambda: one.metrics.erasures_owed._value.get() == 1, watched=one)
        assert receipts.ids == []
        receipts.away = False
        await until(lambda: receipts.ids == [asked], watched=one)
        await until(lambda: len(memory.effects) == 1, watched=one)
    assert memory.erasures == ["7"], "done once, though its receipt waited"


async def test_an_erasure_waits_for_the_write_in_progress_and_comes_behind_it(kafka: Kafka) -> None:
    memory, receipts = Memory(), Receipts()
    async with running(kafka, memory, receipts=receipts) as one:
        memory.gate.clear()
        await kafka.publish([event(7)])
        await asyncio.wait_for(memory.waiting.wait(), 60)
        asked = await kafka.erase("7")
        await asyncio.sleep(0)
        assert memory.erasures == []
        memory.gate.set()
        await until(lambda: receipts.ids == [asked], watched=one)
    assert memory.effects == []


async def test_of_two_members_both_erase_and_the_owner_of_the_partition_leaves_the_receipt(kafka: Kafka) -> None:
    memory, receipts = Memory(), Receipts()
    async with (
        running(kafka, memory, receipts=receipts) as one,
        running(kafka, memory, receipts=receipts) as two,
    ):
        both = (one.consumer, two.consumer)
        await until(lambda: all(each._fetcher and each._fetcher._consumer.assignment() for each in both))
        await kafka.publish(map(event, range(9)))
        await until(lambda: len(memory.effects) == 9)
        asked = [await kafka.erase(str(number)) for number in range(3)]
        await until(lambda: sorted(receipts.ids) == sorted(asked))
        await until(lambda: sorted(memory.erasures) == ["0", "0", "1", "1", "2", "2"])
    assert len(memory.effects) == 6


async def test_a_dead_letter_of_an_erased_contact_is_not_written(kafka: Kafka) -> None:
    memory, receipts = Memory(), Receipts()
    memory.bad = lambda one: one.record_id == "7"
    async with running(kafka, memory, receipts=receipts, reject_hold_s=3_600) as one:
        await kafka.publish([event(7)])
        await until(lambda: memory.deliveries, watched=one)  # held: nothing says yet whether it is the deploy
        asked = await kafka.erase("7")
        await until(lambda: receipts.ids == [asked], watched=one)
        await kafka.publish([event(8)])
        await until_committed(kafka)
    assert await kafka.ends(topics.dead_letter("memory")) == {}


async def test_a_receipt_in_postgresql(postgres: Database) -> None:
    dsn = postgres.fresh_database()
    await migrate(dsn)
    place = PostgresReceipts(dsn, "storage")
    one = Erasure(b"demo:a:b", "39500fbc-16af-8f87-8a6c-2f630f4ee2d5", "me@here", event(1).received_at)
    for _ in range(2):
        await place.leave(one, "")
    assert await place.left() == {one.erasure_id}
    assert await PostgresReceipts(dsn, "crm").left() == set()
    connection = await asyncpg.connect(dsn)
    row = await connection.fetchrow("SELECT merchant, record_id, who, remains FROM ops.erasure_receipt")
    await connection.close()
    assert tuple(row) == ("demo", "a:b", "me@here", "")
    with pytest.raises(ReceiptsAway):
        await PostgresReceipts("postgresql://u:p@127.0.0.1:1/none", "storage").left()
