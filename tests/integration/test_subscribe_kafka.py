"""What only Kafka can do to a subscriber: rebalances, topics that are missing, brokers that are away."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from schemas import subscribe as kit
from schemas.results import Results
from schemas.subscribe import TopicMissing, subscribe
from schemas.testing import event
from tests.contract.test_subscribe import InKafka
from tests.integration.test_deploy_subscribing import AnyBroker
from tests.services import create_topics


@pytest.fixture
async def topic(broker: AnyBroker) -> InKafka:
    name = f"kit-{uuid.uuid4().hex[:8]}"
    await create_topics(broker.bootstrap_servers, **{name: 3})
    return InKafka(broker.bootstrap_servers, name)


async def test_a_missing_topic_is_told_and_not_made(broker: AnyBroker) -> None:
    with pytest.raises(TopicMissing, match="no topic 'nowhere'"):
        async with subscribe("team", servers=broker.bootstrap_servers, topic="nowhere"):
            pass
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    assert "nowhere" not in await admin.list_topics()
    await admin.close()


async def test_nothing_waits_for_ever_on_a_broker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit, "REQUEST_S", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises((KafkaError, TimeoutError)):
            async with subscribe("team", servers=f"127.0.0.1:{silent.getsockname()[1]}"):
                pass


class Rebalance:
    """What members were told: `revoking` when the first gives up partitions, `over` with an assignment after that."""

    def __init__(self) -> None:
        self.revoking, self.over = asyncio.Event(), asyncio.Event()


@pytest.fixture
def rebalance(monkeypatch: pytest.MonkeyPatch) -> Rebalance:
    told = Rebalance()

    class Watched(kit.KafkaSource):
        async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
            if revoked:
                told.revoking.set()
            await super().on_partitions_revoked(revoked)

        async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
            await super().on_partitions_assigned(assigned)
            if told.revoking.is_set():
                told.over.set()

    monkeypatch.setattr(kit, "KafkaSource", Watched)
    return told


async def test_a_rebalance_waits_for_the_body_and_nothing_comes_twice(topic: InKafka, rebalance: Rebalance) -> None:
    worked: dict[str, Counter[str]] = {"first": Counter(), "second": Counter()}
    wanted, in_body, go_on = 600, asyncio.Event(), asyncio.Event()

    async def member(name: str) -> None:
        async with topic.subscribe("team", max_batch=50) as results:
            async for batch in results:
                in_body.set()
                await go_on.wait()
                worked[name].update(one.event_id for one in batch)
                if sum(each.total() for each in worked.values()) >= wanted:
                    done.set()

    done = asyncio.Event()
    await topic.publish(*(event(str(number)) for number in range(300)))
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        first = group.create_task(member("first"))
        await in_body.wait()
        second = group.create_task(member("second"))
        await rebalance.revoking.wait()
        assert not rebalance.over.is_set()  # the first still holds a batch
        go_on.set()
        await topic.publish(*(event(str(number)) for number in range(300, 600)))
        await done.wait()
        first.cancel()
        second.cancel()
    assert worked["first"]
    assert worked["second"]
    assert len(worked["first"] + worked["second"]) == wanted
    assert set((worked["first"] + worked["second"]).values()) == {1}


async def test_a_body_past_the_limit_keeps_nobody_waiting_and_its_late_commit_harms_nobody(
    topic: InKafka, rebalance: Rebalance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit, "LET_GO_S", 0.5)
    await topic.publish(event("1"))
    async with asyncio.timeout(120), AsyncExitStack() as stack:
        async with topic.subscribe("team") as slow:
            held = await anext(slow)
            other = await stack.enter_async_context(topic.subscribe("team"))
            got = asyncio.create_task(taken_until("2", other))
            await rebalance.over.wait()  # the slow one still holds its batch
            slow.stop()
            with pytest.raises(StopAsyncIteration):
                await anext(slow)
        await topic.publish(event("2"))
        assert {*await got} - {"1"} == {"2"}  # the first may have come to both
    assert held.events == [event("1")]
    assert await topic.lag("team") == 0


async def taken_until(record_id: str, results: Results) -> list[str]:
    got: list[str] = []
    async for batch in results:
        got += [one.record_id for one in batch]
        if record_id in got:
            results.stop()
    return got
