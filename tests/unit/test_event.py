from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka.partitioner import murmur2 as reference_murmur2
from hypothesis import given
from hypothesis import strategies as st

from schemas import topics, wire
from schemas.blu import BluRecord, decode_callback
from schemas.event import DialResult, dial_result, event_id
from schemas.murmur import murmur2
from schemas.wire import InvalidRecord

from .json_texts import read, records, write

DOCUMENTED = (Path(__file__).parent / "data" / "documented-body.txt").read_bytes()
RECEIVED_MS = 1_795_490_055_926  # 2026-11-24T03:14:15.926Z


def documented() -> DialResult:
    decoded = decode_callback(DOCUMENTED)
    return dial_result("demo", decoded.task_id, decoded.records[0], RECEIVED_MS)


# Frozen: an id that changes makes every replay, every repeat and every sink see a new result.
GOLDEN = [
    ("demo", "66635573", "55667448", None, "39500fbc-16af-8f87-8a6c-2f630f4ee2d5"),
    ("demo", "1", "1", b'{"id":1}', "31f102fb-e4a9-8e3e-b9bf-b07ae949dd39"),
    ("demo", "1", "1", b'{"id":1.0}', "3eae24a6-6281-887e-b585-0e828c2ab7e9"),
    ("acme", "007", "00012", '{"id":"00012","name":"李雷 😀"}'.encode(), "6c313a3c-bb5a-860e-8798-fb070c576d8c"),
]


@pytest.mark.parametrize(("merchant", "task", "record", "canonical", "expected"), GOLDEN)
def test_golden_event_ids(merchant: str, task: str, record: str, canonical: bytes | None, expected: str) -> None:
    canonical = canonical or decode_callback(DOCUMENTED).records[0].content
    assert event_id(merchant, task, record, canonical) == expected


@given(st.text(max_size=9), st.text(max_size=9), st.binary(max_size=30))
def test_an_event_id_is_a_uuid_version_8_of_the_hash(task: str, record: str, canonical: bytes) -> None:
    task, record = task.encode(errors="replace").decode(), record.encode(errors="replace").decode()
    name = uuid.UUID(event_id("demo", task, record, canonical))
    assert (name.version, name.variant) == (8, uuid.RFC_4122)
    digest = hashlib.sha256(b"demo\0" + task.encode() + b"\0" + record.encode() + b"\0" + canonical).digest()
    kept = ~(0xF << 76 | 0x3 << 62)
    assert name.int & kept == int.from_bytes(digest[:16]) & kept


@given(record=records)
def test_the_same_result_has_the_same_id_in_any_order_of_fields(record: dict[str, Any]) -> None:
    shuffled = dict(reversed(record.items()))
    ids = set()
    for form in (record, shuffled):
        body = write({"taskId": "9", "records": [form]}, " ").encode()
        ids.add(dial_result("demo", "9", decode_callback(body).records[0], 0).event_id)
    assert len(ids) == 1


def test_the_record_in_kafka() -> None:
    written = wire.encode(documented())
    assert written.key == b"demo:55667448"
    assert read(written.value) == {
        "eventId": "39500fbc-16af-8f87-8a6c-2f630f4ee2d5",
        "merchant": "demo",
        "taskId": "66635573",
        "recordId": "55667448",
        "receivedAt": "2026-11-24T03:14:15.926Z",
        "source": "callback",
        "result": read(decode_callback(DOCUMENTED).records[0].content),
    }
    assert dict(written.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"39500fbc-16af-8f87-8a6c-2f630f4ee2d5",
        "ce_type": b"blu.dial-result",
        "ce_source": b"/merchants/demo",
        "ce_subject": b"66635573/55667448",
        "ce_time": b"2026-11-24T03:14:15.926Z",
        "content-type": b"application/json",
    }
    assert written.timestamp_ms == RECEIVED_MS


@given(record=records, ms=st.integers(0, 4_000_000_000_000), task=st.text(st.characters(codec="utf-8"), min_size=1))
def test_what_is_written_is_read_again(record: dict[str, Any], ms: int, task: str) -> None:
    body = write({"taskId": "1", "x": record["extVars"], "records": [record]}).encode()
    decoded = decode_callback(body)
    sent = dial_result("demo", task, decoded.records[0], ms, envelope=decoded.envelope)
    written = wire.encode(sent)
    got = wire.decode(written.value)
    assert bytes(got.result) == decoded.records[0].content
    assert read(bytes(got.envelope)) == {"x": record["extVars"]}
    assert (got.event_id, got.task_id, got.key) == (sent.event_id, task, sent.key)
    assert got.received_at == datetime.fromtimestamp(ms / 1000, UTC)
    assert written.timestamp_ms == ms


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((b'"recordId"', b'"recordID"'), "not-an-event"),
        ((b'"receivedAt":"2026', b'"receivedAt":"soon'), "not-an-event"),
        ((b"39500fbc-", b"39500FBC-"), "not-an-event"),
        ((b'"taskId":"66635573"', b'"taskId":66635573'), "not-an-event"),
        ((b'"result":{', b'"result":[],"x":{'), "not-an-event"),
        ((b'"result":{', b'"result":{{'), "not-json"),
        ((b'"intkey":10000', b'"intkey":"\\ud800"'), "not-json"),
        ((b'"intkey":10000', b'"intkey":' + b"[" * 5000 + b"]" * 5000), "too-deep"),
    ],
)
def test_what_is_no_event_is_refused_with_a_reason(change: tuple[bytes, bytes], reason: str) -> None:
    value = wire.encode(documented()).value
    assert change[0] in value
    with pytest.raises(InvalidRecord) as raised:
        wire.decode(value.replace(*change))
    assert raised.value.reason == reason
    with pytest.raises(InvalidRecord) as raised:
        wire.decode_all([value, value.replace(*change), value])
    assert raised.value.reason == reason


def test_many_events_are_read_as_each_alone() -> None:
    values = [wire.encode(documented()).value, wire.encode(dial_result("demo", "2", BluRecord(0, "1", b"{}"), 0)).value]
    assert wire.decode_all(values) == [wire.decode(value) for value in values]
    assert wire.decode_all([]) == []
    two_ids = values[0].replace(b"39500fbc-", b"39500fbc-0000-8000-8000-000000000000\\n39500fbc-")
    for wrong in (b"", two_ids):
        with pytest.raises(InvalidRecord):
            wire.decode_all([values[0], wrong])


@pytest.mark.parametrize(
    ("number", "reason"), [(b"1e9999999999999999999999", "not-json"), (b"9" * 4301, "not-an-event")]
)
def test_a_number_that_nobody_can_hold_is_refused_where_it_is_used(number: bytes, reason: str) -> None:
    event = wire.decode(wire.encode(documented()).value.replace(b'"intkey":10000', b'"intkey":' + number))
    for _ in range(2):
        with pytest.raises(InvalidRecord) as raised:
            event.record()
        assert raised.value.reason == reason


@pytest.mark.parametrize("value", [None, b""])
def test_a_record_without_a_value_is_refused(value: bytes | None) -> None:
    with pytest.raises(InvalidRecord, match="empty"):
        wire.decode(value)


def test_a_field_added_later_does_no_harm() -> None:
    value = wire.encode(documented()).value.replace(b'{"eventId"', b'{"new":{"a":1},"eventId"')
    assert wire.decode(value).record_id == "55667448"


def test_numbers_are_exact_for_those_who_read() -> None:
    record = BluRecord(0, "1", b'{"id":1,"big":123456789012345678901234567890,"part":0.12345678901234567890}')
    read_again = wire.decode(wire.encode(dial_result("demo", "1", record, 0)).value).record()
    assert str(read_again["big"]) == "123456789012345678901234567890"
    assert str(read_again["part"]) == "0.12345678901234567890"


@pytest.mark.parametrize(
    ("key", "murmur2"),
    [(b"21", -973932308), (b"foobar", -790332482)],  # Apache Kafka, UtilsTest.testMurmur2
)
def test_partitions_are_those_of_the_java_client(key: bytes, murmur2: int) -> None:
    assert topics.partition_of(key, 12) == (murmur2 & 0x7FFFFFFF) % 12


def test_all_topics_are_named_and_sized() -> None:
    specs = {spec.name: spec for spec in topics.topic_specs(3)}
    assert specs["dial-results"].partitions == specs["dial-results.crm.replay"].partitions == 12
    assert specs["dial-results"].config["min.insync.replicas"] == "2"
    assert specs["dial-results.erased"].config["cleanup.policy"] == "compact"
    assert {"dial-results.quarantine", "dial-results.storage.dead-letter"} <= set(specs)
    assert topics.topic_specs(1)[0].config["min.insync.replicas"] == "1"


def test_an_event_is_frozen() -> None:
    with pytest.raises(AttributeError):
        documented().merchant = "other"  # type: ignore[misc]
    assert isinstance(documented().result, msgspec.Raw)


@given(st.binary(max_size=60))
def test_the_hash_is_aiokafkas_to_the_bit(key: bytes) -> None:
    assert murmur2(key) & 0x7FFFFFFF == reference_murmur2(key) & 0x7FFFFFFF
