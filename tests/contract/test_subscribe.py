"""What a subscriber may rely on, held by the kit over a real Kafka and by its topic in memory alike."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas import topics, wire
from schemas.event import DialResult
from schemas.results import Batch, Results
from schemas.subscribe import subscribe
from schemas.testing import MemoryTopic, event
from tests.services import create_topics

PARTITIONS = 3
YESTERDAY = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)  # no broker takes a time to come


class Topic(Protocol):
    async def publish(self, *events: DialResult) -> None: ...
    async def put(self, value: bytes | None) -> None: ...
    async def lag(self, group: str) -> int: ...
    def subscribe(self, group: str, **options: Any) -> AbstractAsyncContextManager[Results]: ...


class InMemory:
    def __init__(self) -> None:
        self._topic = MemoryTopic(PARTITIONS)
        self.subscribe = self._topic.subscribe

    async def publish(self, *events: DialResult) -> None:
        self._topic.publish(*events)

    async def put(self, value: bytes | None) -> None:
        self._topic.put(value)

    async def lag(self, group: str) -> int:
        return self._topic.lag(group)


class InKafka:
    def __init__(self, servers: str, name: str) -> None:
        self._servers = servers
        self.name = name

    def subscribe(self, group: str, **options: Any) -> AbstractAsyncContextManager[Results]:
        return subscribe(f"{group}-{self.name}", servers=self._servers, topic=self.name, **options)

    async def publish(self, *events: DialResult) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self._servers, acks="all") as producer:
            for record in map(wire.encode, events):
                await producer.send_and_wait(
                    self.name,
                    record.value,
                    key=record.key,
                    headers=record.headers,
                    timestamp_ms=record.timestamp_ms,
                    partition=topics.partition_of(record.key, PARTITIONS),
                )

    async def put(self, value: bytes | None) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self._servers, acks="all") as producer:
            await producer.send_and_wait(self.name, value, key=b"demo:1")

    async def lag(self, group: str) -> int:
        places = [TopicPartition(self.name, number) for number in range(PARTITIONS)]
        async with AIOKafkaConsumer(
            bootstrap_servers=self._servers, group_id=f"{group}-{self.name}", enable_auto_commit=False
        ) as client:
            ends = await client.end_offsets(places)
            return sum([ends[place] - (await client.committed(place) or 0) for place in places])


@pytest.fixture(params=["memory", "kafka"])
async def topic(request: pytest.FixtureRequest) -> AsyncIterator[Topic]:
    if request.param == "memory":
        yield InMemory()
        return
    broker = request.getfixturevalue("broker")
    name = f"kit-{uuid.uuid4().hex[:8]}"
    await create_topics(broker.bootstrap_servers, **{name: PARTITIONS})
    yield InKafka(broker.bootstrap_servers, name)


async def taken(results: Results, count: int) -> list[DialResult]:
    """Work on batches until so many results came; all of them are committed."""
    events: list[DialResult] = []
    async for batch in results:
        events += batch
        if len(events) >= count:
            results.stop()
    return events


async def first(results: Results) -> Batch:
    """Break off in the first body."""
    async for batch in results:
        return batch
    raise AssertionError


def ids(events: list[DialResult]) -> list[str]:
    return sorted(one.record_id for one in events)


async def test_each_result_comes_once_and_is_committed(topic: Topic) -> None:
    await topic.publish(event("1"), event("2"), event("1"), event("3"), event("2"))
    async with topic.subscribe("team") as results:
        assert ids(await taken(results, 3)) == ["1", "2", "3"]
    await topic.publish(event("4"))
    async with topic.subscribe("team") as results:
        assert ids(await taken(results, 1)) == ["4"]
    assert await topic.lag("team") == 0


async def test_a_contact_s_results_come_in_their_order(topic: Topic) -> None:
    calls = [event("1", conclusion=str(number)) for number in range(30)]
    await topic.publish(*calls)
    async with topic.subscribe("team", max_batch=4) as results:
        assert await taken(results, 30) == calls


async def test_a_loop_broken_off_begins_with_the_same_batch_again(topic: Topic) -> None:
    await topic.publish(event("1"))
    async with topic.subscribe("team") as results:
        broken = await first(results)
        assert await topic.lag("team") == 1
        assert (await first(results)).events == broken.events
        assert ids(await taken(results, 1)) == ["1"]
    assert await topic.lag("team") == 0


async def test_what_a_body_did_not_finish_comes_to_the_next_member(topic: Topic) -> None:
    await topic.publish(event("1"))
    async with topic.subscribe("team") as results:
        with pytest.raises(ZeroDivisionError):
            _ = [1 / 0 async for _ in results]
    async with topic.subscribe("team") as results:
        assert ids(await taken(results, 1)) == ["1"]


async def test_a_new_group_begins_at_since_and_a_known_one_where_it_was(topic: Topic) -> None:
    hours = [event(str(n), received_at=YESTERDAY + timedelta(hours=n)) for n in range(7)]
    await topic.publish(*hours[:5])
    async with topic.subscribe("team", since=YESTERDAY + timedelta(hours=3)) as results:
        assert {"3", "4"} <= set(ids(await taken(results, 2)))
    await topic.publish(hours[5])
    async with topic.subscribe("team", since=YESTERDAY) as results:  # has committed: `since` says nothing any more
        got = ids(await taken(results, 1))
        assert "5" in got
    async with topic.subscribe("late", since=YESTERDAY + timedelta(hours=5.5)) as results:  # where there is nothing yet
        await topic.publish(hours[6])
        assert ids(await taken(results, 1)) == ["6"]


async def test_a_later_since_skips_nothing_that_came_while_nobody_ran(topic: Topic) -> None:
    """`since` is often "yesterday", another time at each start; a quiet partition must not begin anew with it."""
    at = [YESTERDAY + timedelta(hours=n) for n in range(9)]
    busy, quiet = event("1", received_at=at[2]), event("2", received_at=at[3])
    assert topics.partition_of(busy.key, PARTITIONS) != topics.partition_of(quiet.key, PARTITIONS)
    await topic.publish(busy)
    async with topic.subscribe("team", since=at[1]) as results:
        assert ids(await taken(results, 1)) == ["1"]
    await topic.publish(quiet)
    async with topic.subscribe("team", since=at[8]) as results:
        assert ids(await taken(results, 1)) == ["2"]


async def test_only_the_wanted_merchants_come_and_the_others_are_committed(topic: Topic) -> None:
    await topic.publish(event("1", merchant="acme"), event("2"), event("3", merchant="acme-2"), event("4"))
    async with topic.subscribe("team", merchants={"demo"}) as results:
        assert ids(await taken(results, 2)) == ["2", "4"]
    async with topic.subscribe("team") as results:
        await topic.publish(event("5"))
        assert ids(await taken(results, 1)) == ["5"]


async def test_only_the_wanted_fields_come(topic: Topic) -> None:
    whole = event("1", conclusion="AP", amount=1.5, name="Anoj Mohoo", **{"a b": {"c": None}})
    await topic.publish(whole)
    async with topic.subscribe("team", fields=("conclusion", "a b", "absent")) as results:
        (got,) = await taken(results, 1)
    assert got.record() == {"conclusion": "AP", "a b": {"c": None}}
    assert got.event_id == whole.event_id
    assert b"Anoj" not in wire.encode(got).value


async def test_what_is_no_event_is_left_out_and_told_without_its_content(
    topic: Topic, caplog: pytest.LogCaptureFixture
) -> None:
    await topic.put(b'{"name": "Anoj Mohoo"')
    await topic.put(None)
    await topic.publish(event("1"))
    async with topic.subscribe("team") as results:
        assert ids(await taken(results, 1)) == ["1"]
        assert (results.counts.invalid, results.counts.handed_out) == (2, 1)
    assert "offset 0: not-json" in caplog.text
    assert "Anoj" not in caplog.text
    assert await topic.lag("team") == 0


async def test_only_so_many_ids_are_remembered(topic: Topic) -> None:
    one, other = event("1", conclusion="AP"), event("1", conclusion="Busy")
    await topic.publish(one, one, other, one)
    async with topic.subscribe("team", max_batch=1, remembered=1) as results:
        assert await taken(results, 3) == [one, other, one]
        assert results.counts.repeats == 1


@pytest.mark.parametrize("group", ["", "dial-results.storage"])
async def test_the_pipeline_s_own_groups_are_refused(topic: Topic, group: str) -> None:
    if isinstance(topic, InKafka):
        topic = InMemory()  # the adapter gives every group a name of its own
    with pytest.raises(ValueError, match="group of your own"):
        await topic.subscribe(group).__aenter__()
    with pytest.raises(ValueError, match="time zone"):
        await topic.subscribe("team", since=datetime(2026, 11, 24)).__aenter__()  # noqa: DTZ001
