from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

from schemas import topics, wire
from schemas.blu import decode_callback
from schemas.event import DialResult, dial_result

ROOT = Path(__file__).parents[2]
CONTRACT = (ROOT / "docs/contract.md").read_text()
DOCUMENTED = (ROOT / "tests/unit/data/documented-body.txt").read_bytes()
RECEIVED_MS = round(datetime(2026, 11, 24, 3, 14, 15, 926_000, UTC).timestamp() * 1000)


def documented_record() -> wire.KafkaRecord:
    callback = decode_callback(DOCUMENTED)
    return wire.encode(dial_result("demo", callback.task_id, callback.records[0], RECEIVED_MS))


def rows(heading: str) -> list[list[str]]:
    chapter = CONTRACT.split(f" {heading}\n", 1)[1].split("\n#", 1)[0]
    table = re.findall(r"^\| (`.+) \|$", chapter, re.MULTILINE)
    return [row.split(" | ") for row in table]


def code(cell: str) -> str:
    found = re.match(r"`([^`]+)`", cell)
    assert found, cell
    return found[1]


def test_the_example_is_what_the_documented_callback_becomes() -> None:
    record = documented_record()
    (example,) = re.findall(r"```json\n(.*?)```", CONTRACT, re.DOTALL)
    assert json.loads(example) == json.loads(record.value)
    assert f"| key | `{record.key.decode()}` |" in CONTRACT
    assert f"`{record.timestamp_ms}`" in CONTRACT


def test_the_fields_are_those_of_the_event() -> None:
    fields = [code(row[0]) for row in rows("The record") if row[0] != "`demo:55667448`"]
    assert fields == list(DialResult.__struct_encode_fields__)


def test_the_headers_are_those_of_the_record() -> None:
    documented = {code(row[0]): code(row[1]) for row in rows("Headers")}
    assert documented == {name: value.decode() for name, value in documented_record().headers}


def test_the_topics_are_those_that_are_applied() -> None:
    specs = topics.topic_specs(3, consumers=("<consumer>",))
    days = f"{topics.RETENTION_MS // 86_400_000} days"
    applied = {s.name: [str(s.partitions), "compacted" if "cleanup.policy" in s.config else days] for s in specs}
    assert {code(row[0]): row[1:3] for row in rows("Topics")} == applied


def test_subscribing_shows_the_same_record() -> None:
    text = (ROOT / "docs/subscribing.md").read_text()
    record = documented_record()
    assert ",".join(f"{name}:{value.decode()}" for name, value in record.headers) in text
    assert f"Partition:{topics.partition_of(record.key, topics.PARTITIONS)}\n" in text
