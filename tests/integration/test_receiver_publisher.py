from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from structlog.testing import capture_logs

from receiver.counts import PublishCounts
from receiver.journal import Journal, JournalLimits
from receiver.publisher import Publisher
from schemas import metrics, topics, wire
from schemas.backoff import Backoff
from schemas.wire import timestamp
from tests.services import Broker
from tests.unit.receivers import Running, running
from tests.unit.test_receiver_fast_lane import connect, keep_alive

DOCUMENTED = (Path(__file__).parents[1] / "unit" / "data" / "documented-body.txt").read_bytes()
RECEIVED_MS = time.time_ns() // 1_000_000 - 3_600_000  # Kafka forgets what is weeks old, and takes no time to come
QUICK = Backoff(first_s=0.02, most_s=0.2)


def body(record_id: str, text: str = "") -> bytes:
    return json.dumps({"taskId": 7, "records": [{"id": record_id, "text": text}]}).encode()


@asynccontextmanager
async def admin(broker: Broker) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def ensure_topics(broker: Broker) -> None:
    async with admin(broker) as client:
        present = await client.list_topics()
        wanted = [spec for spec in topics.topic_specs(1) if spec.name in (topics.DIAL_RESULTS, topics.QUARANTINE)]
        missing = [
            NewTopic(spec.name, spec.partitions, 1, topic_configs=spec.config)
            for spec in wanted
            if spec.name not in present
        ]
        if missing:
            await client.create_topics(missing)


class Reader:
    """What came to a topic since this was made."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        self.consumer = consumer
        self.topic = topic
        self.records: list[Any] = []

    async def begin(self) -> None:
        partitions = [TopicPartition(self.topic, number) for number in self.consumer.partitions_for_topic(self.topic)]
        self.consumer.assign(partitions)
        await self.consumer.seek_to_end()
        for partition in partitions:
            await self.consumer.position(partition)

    async def until(self, enough: Any, limit_s: float = 60) -> list[Any]:
        async with asyncio.timeout(limit_s):
            while not enough(self.records):
                for records in (await self.consumer.getmany(timeout_ms=100)).values():
                    self.records += records
        return self.records


@asynccontextmanager
async def reading(broker: Broker, topic: str) -> AsyncIterator[Reader]:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=broker.bootstrap_servers,
        enable_auto_commit=False,
        metadata_max_age_ms=1_000,
        fetch_max_wait_ms=20,
    )
    await consumer.start()
    try:
        consumer.unsubscribe()
        reader = Reader(consumer, topic)
        await reader.begin()
        yield reader
    finally:
        await consumer.stop()


class Part:
    """A journal and its publisher, as the receiver has them."""

    def __init__(self, folder: Path, bootstrap_servers: str, **login: str) -> None:
        self.counts = PublishCounts()
        self.journal = Journal.open(folder, JournalLimits(quota_bytes=1 << 30, segment_bytes=8 << 20))
        options = {"bootstrap_servers": bootstrap_servers, **login}
        self.publisher = Publisher(self.journal, options, self.counts, QUICK)

    async def append(self, *bodies: bytes, merchant: str = "demo") -> None:
        await asyncio.gather(*(self.journal.append(merchant, one, RECEIVED_MS) for one in bodies))

    async def published(self, limit_s: float = 60) -> None:
        async with asyncio.timeout(limit_s):
            while self.journal.waiting:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def publishing(folder: Path, bootstrap_servers: str, **login: str) -> AsyncIterator[Part]:
    part = Part(folder, bootstrap_servers, **login)
    task = asyncio.create_task(part.publisher.run())
    try:
        yield part
        assert not task.done(), "nothing may stop the publisher"
    finally:
        task.cancel()
        await asyncio.wait((task,))
        await part.journal.close()


def kept(record: Any) -> dict[str, bytes]:
    return dict(record.headers)


async def test_the_documented_callback_becomes_the_documented_event(own_broker: Broker, tmp_path: Path) -> None:
    await ensure_topics(own_broker)
    async with (
        reading(own_broker, topics.DIAL_RESULTS) as results,
        publishing(tmp_path, own_broker.bootstrap_servers) as part,
    ):
        await part.append(DOCUMENTED)
        (record,) = await results.until(lambda records: records)
        await part.published()
    value = json.loads(record.value)
    assert record.key == b"demo:55667448"
    assert record.partition == topics.partition_of(record.key, topics.PARTITIONS)
    assert record.timestamp == RECEIVED_MS
    assert (value["taskId"], value["recordId"]) == ("66635573", "55667448")
    assert value["result"]["extVars"] == {"key": "string", "intkey": 10000}
    assert value["result"]["callVars"] == {"name": "Bob", "salary": 10000}
    assert kept(record)["ce_id"].decode() == value["eventId"]
    assert part.counts.published == {"demo": 1}
    assert part.counts.kafka_up


async def test_what_cannot_be_read_is_kept_byte_for_byte(own_broker: Broker, tmp_path: Path) -> None:
    await ensure_topics(own_broker)
    unreadable = {
        "not-utf8": b"\xff\xfe\x00random",
        "not-json": b'{"taskId":1,"records":[{"id":',
        "too-deep": b"[" * 100_000,
    }
    one_of_two = b'{"taskId":1,"records":[{"id":"fine"},{"no":"id"}]}'
    async with (
        reading(own_broker, topics.DIAL_RESULTS) as results,
        reading(own_broker, topics.QUARANTINE) as quarantine,
        publishing(tmp_path, own_broker.bootstrap_servers) as part,
    ):
        await part.append(*unreadable.values(), one_of_two, b'{"taskId":1,"records":[]}')
        await part.published()
        records = await quarantine.until(lambda records: len(records) >= 4)
        (good,) = await results.until(lambda records: records)
    assert good.key == b"demo:fine"
    assert {kept(record)["reason"].decode(): record.value for record in records} == unreadable | {"no-id": one_of_two}
    assert all(kept(record)["merchant"] == b"demo" for record in records)
    received_at = timestamp(datetime.fromtimestamp(RECEIVED_MS / 1_000, UTC)).encode()
    assert all(kept(record)["received-at"] == received_at for record in records)
    assert {kept(record).get("record-index") for record in records} == {None, b"1"}
    assert part.counts.empty == 1
    assert part.counts.decoded == 1
    assert part.counts.quarantined == {"not-utf8": 1, "not-json": 1, "too-deep": 1}
    assert part.counts.quarantine_records == {"not-utf8": 1, "not-json": 1, "too-deep": 1, "no-id": 1}


async def test_a_broker_killed_in_the_middle_loses_nothing_and_keeps_the_order_of_each_contact(
    own_broker: Broker, tmp_path: Path
) -> None:
    await ensure_topics(own_broker)
    contacts, calls = 20, 300
    async with publishing(tmp_path, own_broker.bootstrap_servers) as part:
        async with reading(own_broker, topics.DIAL_RESULTS) as results:
            before = {
                partition: await results.consumer.position(partition) for partition in results.consumer.assignment()
            }
        for call in range(calls):
            await part.append(*(body(f"kill-{contact}", str(call)) for contact in range(contacts)))
            if call == calls // 2:
                await asyncio.to_thread(own_broker.kill)
        assert part.journal.waiting
        await asyncio.to_thread(own_broker.start)
        await part.published()
        async with reading(own_broker, topics.DIAL_RESULTS) as results:
            for partition, offset in before.items():
                results.consumer.seek(partition, offset)
            records = await results.until(lambda records: len(records) >= contacts * calls)
    last_place = {(record.key, int(wire.decode(record.value).record()["text"])): record.offset for record in records}
    assert len(last_place) == contacts * calls
    for contact in range(contacts):
        places = [last_place[f"demo:kill-{contact}".encode(), call] for call in range(calls)]
        assert places == sorted(places)
    assert part.counts.published == {"demo": contacts * calls}


async def test_without_its_topic_it_waits_creates_nothing_and_says_so_once(own_broker: Broker, tmp_path: Path) -> None:
    await ensure_topics(own_broker)
    async with admin(own_broker) as client:
        await client.delete_topics([topics.DIAL_RESULTS])
        await until_topic(client, there=False)
        with capture_logs() as logs:
            async with publishing(tmp_path, own_broker.bootstrap_servers) as part:
                await part.append(body("no-topic"))
                await until(lambda: part.counts.publish_failures >= 3)
                assert part.journal.waiting == 1
                assert not part.counts.kafka_up
                assert topics.DIAL_RESULTS not in await client.list_topics()
                await ensure_topics(own_broker)
                await part.published()
    said = [(line["event"], line.get("reason")) for line in logs if line["event"].startswith("publishing")]
    assert said == [("publishing_stalled", "topic-missing"), ("publishing_goes_on", None)]


async def test_a_record_that_the_broker_finds_too_large_is_quarantined_alone(
    own_broker: Broker, tmp_path: Path
) -> None:
    await ensure_topics(own_broker)
    large = body("large", "x" * 30_000)
    async with (
        reading(own_broker, topics.DIAL_RESULTS) as results,
        reading(own_broker, topics.QUARANTINE) as quarantine,
        largest_record(own_broker, topics.DIAL_RESULTS, 20_000),
        publishing(tmp_path, own_broker.bootstrap_servers) as part,
    ):
        await part.append(*(body("large", str(number)) for number in range(3)), large, body("large", "3"))
        await part.published()
        (kept_whole,) = await quarantine.until(lambda records: records)
        records = await results.until(lambda records: len(records) >= 4)
    assert kept_whole.value == large
    assert kept(kept_whole)["reason"] == b"too-large"
    assert [wire.decode(record.value).record()["text"] for record in records] == ["0", "1", "2", "3"]
    assert part.counts.publish_failures == 0


@pytest.mark.parametrize("set_right", [True, False], ids=["set right since", "still ahead"])
async def test_a_clock_far_ahead_does_not_stall_publishing(
    own_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, set_right: bool
) -> None:
    """Kafka refuses a batch with one time that lies over an hour ahead of its clock."""
    await ensure_topics(own_broker)
    now_ms = time.time_ns() // 1_000_000
    ahead_ms = now_ms + 3 * 3_600_000
    if not set_right:
        monkeypatch.setattr("receiver.broker.now_ms", lambda: ahead_ms + 1_000)
    with capture_logs() as logs:
        async with (
            reading(own_broker, topics.DIAL_RESULTS) as results,
            publishing(tmp_path, own_broker.bootstrap_servers) as part,
        ):
            for number, received_ms in enumerate([now_ms - 60_000, ahead_ms, now_ms - 30_000]):
                await part.journal.append("demo", body("ahead", str(number)), received_ms)
            await part.published()
            records = await results.until(lambda records: len(records) >= 3)
    assert [wire.decode(record.value).record()["text"] for record in records] == ["0", "1", "2"]
    assert round(wire.decode(records[1].value).received_at.timestamp() * 1000) == ahead_ms, "this stays what it was"
    if set_right:
        assert [record.timestamp for record in records[::2]] == [now_ms - 60_000, now_ms - 30_000]
        assert 0 <= records[1].timestamp - now_ms < 60_000
    else:
        assert records[1].timestamp == -1
    assert part.counts.restamped >= 1
    assert part.counts.publish_failures == 0
    assert "times_refused_by_kafka" in [line["event"] for line in logs]


async def test_a_restart_sends_at_most_one_window_again(own_broker: Broker, tmp_path: Path) -> None:
    await ensure_topics(own_broker)
    count = 5_000
    async with reading(own_broker, topics.DIAL_RESULTS) as results:
        first = Part(tmp_path, own_broker.bootstrap_servers)
        await first.append(*(body(f"restart-{number}") for number in range(count)))
        marked = asyncio.Event()
        mark_published = first.journal.mark_published
        first.journal.mark_published = lambda to: (mark_published(to), marked.set())[0]  # type: ignore[method-assign]
        task = asyncio.create_task(first.publisher.run())
        await asyncio.wait_for(marked.wait(), 60)
        task.cancel()
        await asyncio.wait((task,))
        assert first.journal.waiting, "it was cancelled behind its first window"
        await first.journal.close()
        async with publishing(tmp_path, own_broker.bootstrap_servers) as second:
            await second.published()
            records = await results.until(lambda records: len({record.key for record in records}) == count)
    assert len(records) - count <= 1_000


async def test_on_stop_the_grace_is_used_for_publishing(own_broker: Broker, tmp_path: Path) -> None:
    await ensure_topics(own_broker)
    kafka = {"bootstrap_servers": own_broker.bootstrap_servers}
    async with running(tmp_path, kafka=kafka, stop_grace_s=50.0) as one:
        journal = one.receiver.journal
        await asyncio.gather(*(journal.append("demo", body(f"grace-{number}"), RECEIVED_MS) for number in range(5_000)))
    assert one.exit_code == 0
    assert journal.published == journal.last == 5_000


async def test_without_a_grace_a_stop_waits_for_no_broker_and_the_rest_stays(
    own_broker: Broker, tmp_path: Path
) -> None:
    await ensure_topics(own_broker)
    kafka = {"bootstrap_servers": own_broker.bootstrap_servers}
    try:
        async with running(tmp_path, kafka=kafka, stop_grace_s=0.0) as one:
            journal = one.receiver.journal
            await journal.append("demo", body("before"), RECEIVED_MS)
            await until(lambda: journal.published == 1)
            own_broker.send_signal(signal.SIGSTOP)
            await asyncio.gather(*(journal.append("demo", body(f"{n}"), RECEIVED_MS) for n in range(500)))
        assert (one.exit_code, journal.last, journal.published) == (0, 501, 1)
    finally:
        own_broker.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_broker_that_does_not_let_it_in_is_waited_for(
    own_broker: Broker, tmp_path: Path, mechanism: str
) -> None:
    login = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": "receiver",
        "sasl_plain_password": "wrong",
    }
    with capture_logs() as logs:
        async with publishing(tmp_path, own_broker.bootstrap_servers, **login) as part:
            await part.append(body("no-login"))
            await until(lambda: part.counts.publish_failures >= 3)
            assert part.journal.waiting == 1
    assert [(line["event"], line["reason"]) for line in logs] == [("publishing_stalled", "unreachable")]


async def test_bodies_that_would_grow_beyond_memory_are_quarantined(own_broker: Broker, tmp_path: Path) -> None:
    await ensure_topics(own_broker)
    grows = json.dumps(
        {"taskId": 1, "note": "x" * 400_000, "records": [{"id": number} for number in range(1_000)]}
    ).encode()
    async with (
        reading(own_broker, topics.QUARANTINE) as quarantine,
        publishing(tmp_path, own_broker.bootstrap_servers) as part,
    ):
        await part.append(grows)
        (record,) = await quarantine.until(lambda records: records)
    assert record.value == grows
    assert kept(record)["reason"] == b"too-large"


@asynccontextmanager
async def largest_record(broker: Broker, topic: str, size_bytes: int) -> AsyncIterator[None]:
    """Lower a topic's limit for a while."""
    async with admin(broker) as client:

        async def set_limit(value: int) -> None:
            config = {"max.message.bytes": str(value)}
            await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=config)])

        await set_limit(size_bytes)
        yield
        await set_limit(topics.MAX_RECORD_BYTES)


async def until(condition: Any, limit_s: float = 60) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.01)


async def until_topic(client: AIOKafkaAdminClient, *, there: bool) -> None:
    async with asyncio.timeout(60):
        while (topics.DIAL_RESULTS in await client.list_topics()) is not there:
            await asyncio.sleep(0.05)


@pytest.fixture(autouse=True)
async def topics_are_there_again(own_broker: Broker) -> AsyncIterator[None]:
    yield
    await ensure_topics(own_broker)


@pytest.mark.parametrize("fast_lane", [True, False])
async def test_an_answer_that_waits_for_the_broker_comes_when_the_broker_has_it(
    own_broker: Broker, tmp_path: Path, *, fast_lane: bool
) -> None:
    await ensure_topics(own_broker)
    kafka = {"bootstrap_servers": own_broker.bootstrap_servers}
    async with (
        reading(own_broker, topics.DIAL_RESULTS) as results,
        running(tmp_path, kafka=kafka, broker_ack_wait_ms=30_000, fast_lane=fast_lane) as one,
    ):
        places = results.consumer.assignment()

        async def in_kafka() -> int:
            return sum((await results.consumer.end_offsets(places)).values())

        before, client = await in_kafka(), await connect(one)
        for number in range(1, 6):
            assert (await client.ask(keep_alive(body(f"wait-{number}")))).status == 200
            assert await in_kafka() == before + number
        assert one.receiver.counts.ack_waits_over == 0
        client.writer.close()


async def test_the_balance_can_be_taken_from_the_metrics(own_broker: Broker, tmp_path: Path) -> None:
    bodies = [body("balance"), b"?", b'{"taskId":1,"records":[]}', b'{"taskId":1,"records":[{"id":"b"},{}]}']
    async with running(tmp_path) as away:
        for one in bodies:
            await away.post(one)
        assert await balance(away) == {"recovered": 0, "journaled": 4, "waiting": 4}
    kafka = {"bootstrap_servers": own_broker.bootstrap_servers}
    async with running(tmp_path, kafka=kafka) as one:
        await one.post(body("balance", "again"))
        await until(lambda: not one.receiver.journal.waiting)
        assert await balance(one) == {"recovered": 4, "journaled": 1, "decoded": 3, "quarantined": 1, "empty": 1}


async def balance(one: Running) -> dict[str, int]:
    """Return the terms of the balance that are not 0, once it is even."""
    names = {
        "recovered": metrics.JOURNAL_RECOVERED,
        "journaled": f"{metrics.JOURNALED}_total",
        "decoded": f"{metrics.DECODED}_total",
        "quarantined": f"{metrics.QUARANTINED}_total",
        "empty": f"{metrics.EMPTY}_total",
        "damaged": f"{metrics.JOURNAL_DAMAGED}_total",
        "waiting": metrics.JOURNAL_WAITING,
    }
    async with asyncio.timeout(60):
        while True:
            answer = await one.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", admin=True)
            lines = [line.rsplit(" ", 1) for line in answer.body.decode().splitlines() if not line.startswith("#")]
            terms = {
                term: sum(int(float(value)) for key, value in lines if key.split("{")[0] == name)
                for term, name in names.items()
            }
            taken = terms["recovered"] + terms["journaled"]
            if taken == sum(terms.values()) - taken:
                return {term: value for term, value in terms.items() if value or term == "recovered"}
            await asyncio.sleep(0.02)
