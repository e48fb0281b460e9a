"""No connection of a Kafka client outlives the client, whenever it is cut short."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaError

from receiver.broker import NotDelivered, connected
from schemas import topics
from schemas.clients import started
from tests.integration.test_receiver_publisher import Part, body, ensure_topics
from tests.services import Broker

CUTS = 200


def open_sockets(port: int) -> int:
    """Count this process's TCP connections to the broker."""
    connections = psutil.Process().net_connections("tcp4")
    return sum(bool(one.raddr) and one.raddr.port == port and one.status != "CLOSE_WAIT" for one in connections)


async def nothing_is_open(port: int, complaints: list[Any]) -> None:
    """Sockets close in the loop's next turns; nobody may have had to close one by its finalizer."""
    async with asyncio.timeout(60):
        while open_sockets(port):
            await asyncio.sleep(0.01)
    assert not complaints


def nothing_is_left(complaints: list[Any]) -> None:
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, AIOKafkaConnection) and one.connected()]
    assert not complaints


def complaints_of_the_loop() -> list[Any]:
    """Return the list that grows with whatever the event loop has to report."""
    heard: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    return heard


async def test_a_publisher_cancelled_at_any_moment_leaves_no_connection(own_broker: Broker, tmp_path: Path) -> None:
    await ensure_topics(own_broker)
    port = int(own_broker.bootstrap_servers.rsplit(":", 1)[1])
    complaints, chance = complaints_of_the_loop(), random.Random(4)
    part = Part(tmp_path, own_broker.bootstrap_servers)
    try:
        for cut in range(CUTS):
            await part.append(*(body(f"cut-{cut}-{number}") for number in range(20)))
            task = asyncio.create_task(part.publisher.run())
            await asyncio.sleep(chance.uniform(0, 0.03))
            task.cancel()
            await asyncio.wait((task,))
            assert task.cancelled()
            del task
            await nothing_is_open(port, complaints)
        nothing_is_left(complaints)
    finally:
        await part.journal.close()


@pytest.mark.parametrize(
    "kind", [AIOKafkaProducer, AIOKafkaConsumer, AIOKafkaAdminClient], ids=["producer", "consumer", "admin"]
)
async def test_a_client_cancelled_while_it_starts_or_stops_leaves_no_connection(
    own_broker: Broker, kind: Callable[..., Any]
) -> None:
    port = int(own_broker.bootstrap_servers.rsplit(":", 1)[1])
    complaints, chance = complaints_of_the_loop(), random.Random(5)

    async def begin() -> None:
        async with started(kind(bootstrap_servers=own_broker.bootstrap_servers), 60, 1):
            await asyncio.sleep(chance.uniform(0, 0.002))

    for _ in range(CUTS // 5):
        task = asyncio.create_task(begin())
        await asyncio.sleep(chance.uniform(0, 0.02))
        task.cancel()
        await asyncio.wait((task,))
        with suppress(asyncio.CancelledError):
            task.result()
        del task
        await nothing_is_open(port, complaints)
    nothing_is_left(complaints)


async def test_a_broker_that_hangs_is_let_go_in_time_with_what_was_being_sent(own_broker: Broker) -> None:
    await ensure_topics(own_broker)
    port = int(own_broker.bootstrap_servers.rsplit(":", 1)[1])
    complaints = complaints_of_the_loop()
    client = AIOKafkaProducer(bootstrap_servers=own_broker.bootstrap_servers, max_request_size=8 << 20)
    try:
        async with asyncio.timeout(60), started(client, 60, 0.5):
            await client.send_and_wait(topics.DIAL_RESULTS, b"first", partition=0)
            own_broker.send_signal(signal.SIGSTOP)
            sending = [
                await client.send(topics.DIAL_RESULTS, b"x" * (1 << 20), partition=number) for number in range(8)
            ]
            await asyncio.sleep(0)
        await nothing_is_open(port, complaints)
        nothing_is_left(complaints)
    finally:
        own_broker.send_signal(signal.SIGCONT)
    _, unanswered = await asyncio.wait(sending, timeout=60)
    assert not unanswered
    assert {type(answer.exception()) for answer in sending} == {KafkaError}


async def test_what_hangs_while_connecting_is_let_go_in_time() -> None:
    """A host that takes connections and never answers: the first question is never answered."""
    complaints = complaints_of_the_loop()
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        with pytest.raises(TimeoutError):
            async with started(AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{port}"), 0.3, 0.5):
                pytest.fail("it never starts")
        await nothing_is_open(port, complaints)
        nothing_is_left(complaints)


async def test_the_publishers_client_is_no_exception(own_broker: Broker) -> None:
    complaints = complaints_of_the_loop()
    own_broker.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises((NotDelivered, TimeoutError)):
            async with asyncio.timeout(0.5), connected({"bootstrap_servers": own_broker.bootstrap_servers}):
                pytest.fail("it never starts")
        await nothing_is_open(int(own_broker.bootstrap_servers.rsplit(":", 1)[1]), complaints)
        nothing_is_left(complaints)
    finally:
        own_broker.send_signal(signal.SIGCONT)
