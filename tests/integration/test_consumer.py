from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from prometheus_client.parser import text_string_to_metric_families

from consumers import broker as kafka_clients
from consumers.errors import StandsStill, TooManyRejects, TopicsUnfit
from consumers.sink import SinkUnavailable
from schemas import metrics as names
from schemas import topics, wire

from .delivery import Kafka, Memory, Running, create, event, live_ones_held, own_topics, running, until, until_committed


@pytest.fixture
async def kafka(broker: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kafka]:
    async with own_topics(broker.bootstrap_servers, monkeypatch) as found:
        yield found


@pytest.fixture
async def memory() -> Memory:
    return Memory()


def number(one: Running, name: str) -> float:
    families = text_string_to_metric_families(one.metrics.text().decode())
    return sum(
        sample.value for family in families for sample in family.samples if sample.name in (name, name + "_total")
    )


def headers(record: Any) -> dict[str, bytes]:
    assert len(dict(record.headers)) == len(record.headers), "each header once"
    return dict(record.headers)


async def test_everything_arrives_once_in_order_and_is_committed(kafka: Kafka, memory: Memory) -> None:
    events = [event(number % 50, f"{number:05}") for number in range(3_000)]
    await kafka.publish(events[:1_500])
    async with running(kafka, memory) as one:
        await kafka.publish(events[1_000:])
        await until(lambda: len(memory.effects) == 3_000, watched=one)
        await until_committed(kafka)
        await until(lambda: one.status.live_lag == 0)
        assert number(one, names.EVENTS_DONE) == 3_500
        assert number(one, names.LAG) == 0
        assert number(one, names.SINK_AVAILABLE) == 1
    assert sorted(memory.effects) == sorted(one.event_id for one in events)
    offsets: dict[tuple[str, int], int] = {}
    for delivery in memory.deliveries:
        place = delivery.topic, delivery.partition
        assert delivery.offset == offsets.get(place, 0)
        offsets[place] = delivery.offset + 1


async def test_a_replay_says_so_and_names_its_original(kafka: Kafka, memory: Memory) -> None:
    place = {"replay_id": "r-1", "original_topic": "x", "original_partition": "2", "original_offset": "77"}
    await kafka.publish([event(1)], topics.replay("memory"), **place)
    await kafka.publish([event(2)], topics.replay("memory"), original_partition="?")
    await kafka.publish([event(3)])
    async with running(kafka, memory) as one:
        await until(lambda: len(memory.effects) == 3, watched=one)
        await until_committed(kafka, topic=topics.replay("memory"))
    found = {one.event.record_id: (one.replay_id, one.original) for one in memory.deliveries}
    assert found == {"1": ("r-1", (2, 77)), "2": ("", None), "3": (None, None)}


async def test_a_replay_is_left_to_its_live_record_only_where_that_is_sure_to_come(
    kafka: Kafka, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place(partition: int, offset: int) -> dict[str, str]:
        return {"replay_id": "r", "original_partition": str(partition), "original_offset": str(offset)}

    async def replay(number: int, partition: int, offset: int) -> None:
        await kafka.publish([event(number)], topics.replay("memory"), **place(partition, offset))

    await kafka.publish_events_in_one_partition(7)
    async with running(kafka, memory):
        await until_committed(kafka)
    await kafka.publish_events_in_one_partition(5, first=7)  # offsets 7 to 11
    await kafka.delete_records(0, before=9)
    await replay(50, 0, 3)  # its live record is done
    await replay(51, 0, 8)  # expired before it was done
    await replay(52, 0, 9)  # the first that is still to come
    await replay(53, 0, 11)  # the last
    await replay(54, 0, 12)  # of a topic that was made anew
    await replay(55, 1, 0)  # of an empty one
    await replay(56, 999, 0)  # nobody's
    with live_ones_held(monkeypatch) as let_go:
        async with running(kafka, memory) as one:
            await until_committed(kafka, topic=topics.replay("memory"))
            replayed = {each.event.record_id for each in memory.deliveries if each.replay_id}
            let_go()
            await until_committed(kafka)
    assert replayed == {"50", "51", "54", "55", "56"}
    assert {each.event.record_id for each in memory.deliveries if each.replay_id is None} >= {"9", "10", "11"}
    assert b'dial_results_consumer_replays_left_to_live_total{consumer="memory"} 2.0' in one.metrics.text()


async def test_what_expires_before_it_is_done_is_counted_and_an_alarm(
    kafka: Kafka, memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    await kafka.publish_events_in_one_partition(4)
    async with running(kafka, memory):
        await until_committed(kafka)
    await kafka.publish_events_in_one_partition(16, first=4)  # offsets 4 to 19: nobody is there
    await kafka.delete_records(0, before=15)
    async with running(kafka, memory) as one:
        await until_committed(kafka)
        assert one.status.expired == 11
        assert one.status.reasons_not_ready() == ["records-expired"]
        assert number(one, "dial_results_consumer_records_expired") == 11
    assert len(memory.effects) == 4 + 5
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "records_expired" in line]
    assert all(said in line for said in ("partition=0", "from_offset=4", "to_offset=15", "records=11"))


async def test_what_was_fetched_before_it_expired_is_not_lost(kafka: Kafka, memory: Memory) -> None:
    memory.gate.clear()
    await kafka.publish_events_in_one_partition(3)
    async with running(kafka, memory, max_events=5) as one:
        await asyncio.wait_for(memory.waiting.wait(), 60)
        await kafka.publish_events_in_one_partition(10, first=3)
        await until(lambda: one.consumer._buffer.room == 0, watched=one)
        await kafka.delete_records(0, before=6)
        memory.gate.set()
        await until_committed(kafka)
        assert (len(memory.effects), one.status.expired) == (13, 0)


async def test_a_partition_that_expired_to_its_end_is_an_alarm_too_and_no_standstill(
    kafka: Kafka, memory: Memory
) -> None:
    await kafka.publish_events_in_one_partition(4)
    async with running(kafka, memory):
        await until_committed(kafka)
    await kafka.publish_events_in_one_partition(6, first=4)
    await kafka.delete_records(0, before=10)
    async with running(kafka, memory) as one:
        await until(lambda: one.status.expired == 6, watched=one)
        await until(lambda: one.status.waiting == 0, watched=one)
        await kafka.publish_events_in_one_partition(1, first=10)
        await until_committed(kafka)
        assert (len(memory.effects), one.status.expired) == (5, 6)


async def test_replays_wait_while_more_and_more_live_results_do(kafka: Kafka, memory: Memory) -> None:
    memory.gate.clear()
    async with running(kafka, memory, max_events=100) as one:
        await until(lambda: one.status.joined, watched=one)
        consumer = one.consumer._fetcher._consumer  # type: ignore[union-attr]
        replays = {place for place in consumer.assignment() if place.topic != topics.DIAL_RESULTS}

        def held() -> bool:
            return one.consumer._fetcher._replay_held and replays <= consumer.paused()  # type: ignore[union-attr]

        waits = asyncio.create_task(until(held, watched=one))  # for a second at least: until the lag is looked at again
        for number in range(3):
            await kafka.publish(event(number * 1_500 + each) for each in range(1_500))
            lag = (number + 1) * 1_500
            await until(lambda lag=lag: one.status.live_lag == lag, watched=one)  # type: ignore[misc]
        await waits
        await kafka.publish([event(9_999)], topics.replay("memory"))
        memory.gate.set()
        await until(lambda: len(memory.effects) == 4_501, watched=one)
        assert not consumer.paused()


async def test_a_sink_that_is_away_for_long_costs_neither_events_nor_membership(
    kafka: Kafka, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_clients, "MAX_POLL_S", 5.0)
    memory.away = SinkUnavailable("away")
    async with running(kafka, memory, max_events=100) as one:
        await until(lambda: one.status.joined, watched=one)
        joins = one.consumer._tenure.number
        await kafka.publish(event(number) for number in range(1_000))
        await until(lambda: memory.calls > 2, watched=one)
        assert one.status.reasons_not_ready() == ["sink-unavailable"]
        with pytest.raises(TimeoutError):  # longer than aiokafka lets a member be that does not poll
            await until(lambda: not one.status.joined, 11.0, one)
        assert await kafka.committed("memory") == {}
        assert number(one, names.SINK_AVAILABLE) == 0
        assert one.status.live_lag == 1_000
        memory.away = None
        await until(lambda: len(memory.effects) == 1_000, watched=one)
        await until_committed(kafka)
        assert one.consumer._tenure.number == joins
    assert len(memory.deliveries) == 1_000


async def test_the_time_that_a_destination_asks_for_is_kept(kafka: Kafka, memory: Memory) -> None:
    memory.away = SinkUnavailable("asks", retry_after_s=3)
    await kafka.publish([event(1)])
    async with running(kafka, memory) as one:
        await until(lambda: memory.calls == 1, watched=one)
        memory.away = None
        await until(lambda: memory.effects, watched=one)
        asked, again = memory.called_at
        assert again - asked >= 3


async def test_a_rejected_event_becomes_a_dead_letter_and_the_others_go_on(kafka: Kafka, memory: Memory) -> None:
    memory.bad = lambda event: event.record_id == "13"
    events = [event(number) for number in range(30)]
    await kafka.publish(events)
    async with running(kafka, memory) as one:
        (letter,) = await kafka.read(topics.dead_letter("memory"), 1)
        await until_committed(kafka)
        assert number(one, names.DEAD_LETTERS) == 1
        assert number(one, names.EVENTS_DONE) == 29
    assert len(memory.effects) == 29
    originals = {record.key: record for record in await kafka.read(topics.DIAL_RESULTS, 30)}
    original = originals[b"demo:13"]
    assert (letter.key, letter.value, letter.timestamp) == (original.key, original.value, original.timestamp)
    assert headers(letter) == headers(original) | {
        "reason": b"too-bad",
        "consumer": b"memory",
        "attempts": b"1",
        "version": b"1.2.3",
        "original-topic": topics.DIAL_RESULTS.encode(),
        "original-partition": str(original.partition).encode(),
        "original-offset": str(original.offset).encode(),
    }


async def test_a_rejected_replay_keeps_the_place_of_its_original(kafka: Kafka, memory: Memory) -> None:
    memory.bad = lambda _: True
    place = {"replay_id": "r-1", "original_topic": "dial-results", "original_partition": "2", "original_offset": "77"}
    await kafka.publish([event(1)], topics.replay("memory"), reason="an-older-one", **place)
    async with running(kafka, memory):
        (letter,) = await kafka.read(topics.dead_letter("memory"), 1)
    assert headers(letter)["original-offset"] == b"77"
    assert headers(letter)["replay-id"] == b"r-1"
    assert headers(letter)["reason"] == b"too-bad"


async def test_what_cannot_be_decoded_becomes_a_dead_letter(kafka: Kafka, memory: Memory) -> None:
    deep = wire.encode(event(2)).value.replace(b'"text":""', b'"text":%b%b' % (b"[" * 5_000, b"]" * 5_000))
    undecodable = {"not-json": b"\xff\x00{", "not-an-event": b'{"eventId":"x"}', "empty": None, "too-deep": deep}
    for value in undecodable.values():
        await kafka.publish_as_other_clients_may(value, 1_700_000_000_000, [("a", b"b")])
    await kafka.publish([event(1)])
    async with running(kafka, memory) as one:
        letters = await kafka.read(topics.dead_letter("memory"), 4)
        await until(lambda: memory.effects, watched=one)
        await until_committed(kafka)
    assert {headers(letter)["reason"].decode(): letter.value for letter in letters} == undecodable
    assert all(headers(letter)["a"] == b"b" and letter.timestamp == 1_700_000_000_000 for letter in letters)


async def test_what_cannot_be_decoded_where_it_is_used_becomes_a_dead_letter_alone(
    kafka: Kafka, memory: Memory
) -> None:
    memory.bad = lambda one: not one.record()
    events = [event(number) for number in range(4)]
    good = [wire.encode(one).value for one in events]
    bad = good[1].replace(b'"text":""', b'"text":1e9999999999999999999999')
    for value in (*good, bad):
        await kafka.publish_raw(value, partition=0)
    async with running(kafka, memory) as one:
        await until(lambda: len(memory.effects) == 4, watched=one)
        letters = await kafka.read(topics.dead_letter("memory"), 1)
        await until_committed(kafka)
    assert [(headers(letter)["reason"], letter.value) for letter in letters] == [(b"not-json", bad)]
    assert sorted(memory.effects) == sorted(one.event_id for one in events)


async def test_a_bad_deploy_pours_nothing_into_the_dead_letters(kafka: Kafka, memory: Memory) -> None:
    memory.bad = lambda event: int(event.record_id) >= 100
    await kafka.publish_events_in_one_partition(100)
    await kafka.publish_events_in_one_partition(50, first=100)
    async with running(kafka, memory, reject_limit=20, max_events=10) as one:
        with pytest.raises(TooManyRejects) as stopped:
            await asyncio.wait_for(asyncio.shield(one.task), 60)
    assert stopped.value.exit_code == 78
    assert await kafka.committed("memory") == {(topics.DIAL_RESULTS, 0): 100}
    assert await kafka.ends(topics.dead_letter("memory")) == {}
    memory.bad = lambda _: False
    async with running(kafka, memory) as one:
        await until(lambda: len(memory.effects) == 150, watched=one)


async def test_a_slow_bad_deploy_pours_nothing_either(kafka: Kafka, memory: Memory) -> None:
    memory.bad = lambda _: True
    async with running(kafka, memory, reject_limit=4, reject_hold_s=60) as one:
        for number in range(4):
            await kafka.publish([event(number)])
            await until(lambda number=number: memory.calls == number + 1, watched=one)  # type: ignore[misc]
        await until(lambda: one.status.waiting == 0 and one.status.live_lag == 4, watched=one)
        await kafka.publish([event(5)])
        with pytest.raises(TooManyRejects):
            await asyncio.wait_for(asyncio.shield(one.task), 60)
    assert set((await kafka.committed("memory")).values()) <= {0}
    assert await kafka.ends(topics.dead_letter("memory")) == {}


async def test_a_reject_is_held_until_a_good_record_says_that_the_deploy_is_not_bad(
    kafka: Kafka, memory: Memory
) -> None:
    memory.bad = lambda event: event.record_id == "13"
    async with running(kafka, memory, reject_hold_s=60) as one:
        await kafka.publish_events_in_one_partition(1, first=13)
        await until(lambda: memory.calls == 1 and one.status.live_lag == 1 and one.status.waiting == 0, watched=one)
        assert await kafka.ends(topics.dead_letter("memory")) == {}
        await kafka.publish([event(1)])
        await kafka.read(topics.dead_letter("memory"), 1)
        await until_committed(kafka)


async def test_scattered_rejects_never_add_up_to_the_limit(kafka: Kafka, memory: Memory) -> None:
    memory.bad = lambda event: int(event.record_id) % 2 == 0
    await kafka.publish_events_in_one_partition(60)
    async with running(kafka, memory, reject_limit=3) as one:
        assert len(await kafka.read(topics.dead_letter("memory"), 30)) == 30
        await until(lambda: len(memory.effects) == 30, watched=one)
        await until_committed(kafka)


async def test_a_bug_in_the_sink_ends_the_process_without_a_commit(kafka: Kafka, memory: Memory) -> None:
    memory.bug = KeyError("a bug")
    await kafka.publish([event(1)])
    async with running(kafka, memory) as one:
        with pytest.raises(KeyError, match="a bug"):
            await asyncio.wait_for(asyncio.shield(one.task), 60)
    assert await kafka.committed("memory") == {}


async def test_a_write_that_never_ends_ends_the_process_and_held_rejects_do_not(kafka: Kafka, memory: Memory) -> None:
    memory.bad = lambda _: True
    async with running(kafka, memory, watchdog_s=4, reject_hold_s=60, stop_grace_s=0.2) as one:
        await kafka.publish([event(1)])
        await until(lambda: memory.calls == 1 and one.status.live_lag == 1 and one.status.waiting == 0, watched=one)
        with pytest.raises(TimeoutError):  # there is lag, and nothing to do
            await until(one.task.done, 7)
        memory.gate.clear()
        await kafka.publish([event(2)])
        with pytest.raises(StandsStill, match="nothing moved for 4 s") as stopped:
            await asyncio.wait_for(asyncio.shield(one.task), 60)
    assert stopped.value.exit_code == 75
    assert sum((await kafka.committed("memory")).values()) == 0


async def test_two_members_share_and_one_takes_over_from_the_other(kafka: Kafka, memory: Memory) -> None:
    live = [event(number) for number in range(300)]
    async with running(kafka, memory) as first:
        await kafka.publish(live[:100])
        async with running(kafka, memory) as second:
            await until(lambda: first.status.joined and second.status.joined, watched=first)
            shares = [{tuple(p) for p in one.consumer._fetcher._consumer.assignment()} for one in (first, second)]  # type: ignore[union-attr]
            await kafka.publish(live[100:200])
            await until(lambda: len(memory.effects) == 200, watched=second)
        await kafka.publish(live[200:])
        await until(lambda: len(memory.effects) == 300, watched=first)
        await until_committed(kafka)
    assert sorted(memory.effects) == sorted(one.event_id for one in live)
    for share in shares:
        assert {place for topic, place in share if topic == topics.DIAL_RESULTS} == {
            place for topic, place in share if topic != topics.DIAL_RESULTS
        }
    assert all(shares)
    assert not shares[0] & shares[1]


async def test_a_rebalance_does_not_wait_for_a_sink_that_is_away(kafka: Kafka, memory: Memory) -> None:
    memory.away = SinkUnavailable("away", retry_after_s=600)
    healthy = Memory()
    await kafka.publish(event(number) for number in range(100))
    async with running(kafka, memory) as first:
        await until(lambda: memory.calls == 1, watched=first)
        async with running(kafka, healthy) as second:
            await until(lambda: second.status.joined and healthy.effects, watched=second)
        first.stop.set()
        await asyncio.wait_for(first.task, 60)
    async with running(kafka, healthy) as third:
        await until(lambda: len(healthy.effects) == 100, watched=third)


async def test_a_rebalance_waits_for_the_write_in_progress_and_its_commit(kafka: Kafka, memory: Memory) -> None:
    memory.gate.clear()
    await kafka.publish(event(number) for number in range(100))
    async with running(kafka, memory) as first:
        await asyncio.wait_for(memory.waiting.wait(), 60)
        await kafka.publish(event(number) for number in range(100, 200))
        waiting = first.consumer._buffer
        await until(lambda: waiting._held, watched=first)
        async with running(kafka, Memory()) as second:
            await until(lambda: not first.status.joined, watched=first)
            assert not waiting._held, "what waits is let go"
            assert not second.status.joined
            memory.gate.set()
            await until(lambda: second.status.joined and first.status.joined, watched=first)
            assert sum((await kafka.committed("memory")).values()) >= memory.sizes[0] > 0  # what follows may be written


class SlowCommits:
    """Kafka takes a commit only when it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.release = asyncio.Event()
        self._commit = AIOKafkaConsumer.commit
        monkeypatch.setattr(AIOKafkaConsumer, "commit", lambda client, offsets: self._slow(client, offsets))  # noqa: PLW0108  # not bound twice

    async def _slow(self, client: AIOKafkaConsumer, offsets: Any) -> None:
        self.begun += 1
        await self.release.wait()
        await self._commit(client, offsets)


async def test_a_batch_is_written_while_the_one_before_is_committed(
    kafka: Kafka, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = SlowCommits(monkeypatch)
    async with running(kafka, memory) as one:
        for number in (1, 2):
            await kafka.publish([event(number)])
            await until(lambda number=number: len(memory.effects) == number, watched=one)
        await kafka.publish([event(3)])
        await until(lambda: one.consumer._buffer._held, watched=one)
        assert (commits.begun, len(memory.effects)) == (1, 2), "one commit at a time, and one batch beside it"
        assert await kafka.committed("memory") == {}
        commits.release.set()
        await until_committed(kafka)
    assert len(memory.effects) == len(memory.deliveries) == 3


async def test_a_stop_waits_for_the_commit_that_goes_on(
    kafka: Kafka, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = SlowCommits(monkeypatch)
    await kafka.publish([event(1)])
    async with running(kafka, memory) as one:
        await until(lambda: commits.begun, watched=one)
        one.stop.set()
        await until(lambda: one.status.stopping)
        commits.release.set()
        await asyncio.wait_for(one.task, 60)
    assert sum((await kafka.committed("memory")).values()) == 1


async def test_a_clean_stop_finishes_the_write_and_commits_it(kafka: Kafka, memory: Memory) -> None:
    memory.gate.clear()
    await kafka.publish(event(number) for number in range(10))
    async with running(kafka, memory) as one:
        await asyncio.wait_for(memory.waiting.wait(), 60)
        one.stop.set()
        await until(lambda: one.status.stopping)
        memory.gate.set()
        await asyncio.wait_for(one.task, 60)
    assert sum((await kafka.committed("memory")).values()) == len(memory.deliveries) > 0


async def test_a_stop_does_not_wait_for_ever_for_a_write_and_does_not_commit_it(kafka: Kafka, memory: Memory) -> None:
    memory.gate.clear()
    await kafka.publish([event(1)])
    async with running(kafka, memory, stop_grace_s=0.5) as one:
        await asyncio.wait_for(memory.waiting.wait(), 60)
        one.stop.set()
        await asyncio.wait_for(one.task, 60)
    assert await kafka.committed("memory") == {}


async def test_a_large_record_is_no_obstacle(kafka: Kafka, memory: Memory) -> None:
    await kafka.publish([event(1, "x" * 1_900_000), event(1, "small"), event(1, "y" * 1_500_000)])
    async with running(kafka, memory) as one:
        await until(lambda: len(memory.effects) == 3, watched=one)


async def test_a_missing_topic_is_said_and_not_made(
    broker: Any, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "DIAL_RESULTS", "dial-results-nowhere")
    one = Running(Kafka(broker.bootstrap_servers, None), memory)  # type: ignore[arg-type]
    with pytest.raises(
        TopicsUnfit, match=r"dial-results-nowhere, .*replay, .*dead-letter, .*erased; `dial-results topics apply`"
    ):
        await asyncio.wait_for(one.task, 60)


async def test_replays_need_as_many_partitions_as_live_results(
    broker: Any, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with own_topics(broker.bootstrap_servers, monkeypatch, "other") as kafka:
        await create(broker.bootstrap_servers, topics.dead_letter("memory"))
        await kafka.create_topic(topics.replay("memory"), partitions=1)
        one = Running(kafka, memory)
        with pytest.raises(TopicsUnfit, match=r"3 partitions and .* 1"):
            await asyncio.wait_for(one.task, 60)
