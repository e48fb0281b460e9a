"""The contract for machines is what the code does, and still keeps what the last release promised."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from jsonschema import Draft7Validator, FormatChecker

from ops.blu.bodies import callbacks
from schemas import compatible, publish, wire
from schemas.blu import decode_callback
from schemas.erasure import Erasure, decode, encode
from schemas.event import DialResult, dial_result

RELEASED = publish.FOLDER / "released"
RELEASED_VALUE = json.loads((RELEASED / "dial-result.v1.schema.json").read_text())
RELEASED_TOPIC = yaml.safe_load((RELEASED / "asyncapi.v1.yaml").read_text())
EXAMPLES = sorted((publish.FOLDER / "examples").glob("*.jsonl"))


def told(broken: list[str]) -> str:
    return "\nThe contract of the last release is broken:\n" + "\n".join(f"  - {line}" for line in broken)


def test_the_value_is_still_that_of_the_last_release() -> None:
    broken = compatible.value_breaks(RELEASED_VALUE, publish.value_schema(DialResult))
    assert not broken, told(broken)


def test_the_topic_is_still_that_of_the_last_release() -> None:
    broken = compatible.topic_breaks(RELEASED_TOPIC, publish.asyncapi())
    assert not broken, told(broken)


def test_what_is_published_is_what_the_code_does() -> None:
    for path, content in publish.files().items():
        assert path.read_bytes() == content, f"{path.name}: `python -m schemas.publish` writes it anew"


def test_every_field_is_described() -> None:
    properties = publish.value_schema(DialResult)["properties"]
    assert [name for name, schema in properties.items() if "description" not in schema] == [], "in publish._FIELDS"


def test_nothing_else_is_published() -> None:
    assert {*EXAMPLES} == {path for path in publish.files() if path.suffix == ".jsonl"}
    assert {path.stem for path in EXAMPLES} == {path.stem for path in publish.CALLBACKS.glob("*.txt")}


def validator(schema: dict[str, Any]) -> Draft7Validator:
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema, format_checker=FormatChecker())


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    return schema | {"additionalProperties": False}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_valid_and_read_back(example: Path) -> None:
    lines = example.read_bytes().splitlines()
    assert lines
    for line in lines:
        validator(closed(publish.document())).validate(json.loads(line))
        assert wire.encode(wire.decode(line)).value == line


def test_the_examples_are_of_every_shape() -> None:
    values = [json.loads(line) for path in EXAMPLES for line in path.read_bytes().splitlines()]
    kinds = {type(value["result"].get(name)).__name__ for value in values for name in ("extVars", "callVars")}
    assert kinds == {"dict", "list", "str", "NoneType"}
    assert {value["source"] for value in values} == {"callback", "reconcile"}
    assert {"envelope" in value for value in values} == {True, False}
    assert {type(value["result"]["id"]).__name__ for value in values} == {"int", "str"}


def test_what_the_simulator_posts_becomes_valid_records() -> None:
    value, headers = validator(closed(publish.document())), validator(closed(publish.headers_schema()))
    for posted in callbacks(7, datetime(2026, 11, 24, tzinfo=UTC).date(), UTC, 300):  # type: ignore[arg-type]
        body = decode_callback(posted.body)
        for result in body.records:
            record = wire.encode(dial_result("demo", body.task_id, result, publish.RECEIVED_MS))
            value.validate(json.loads(record.value))
            headers.validate({name: text.decode() for name, text in record.headers})


@pytest.mark.parametrize(
    "wrong", [{"eventId": "x"}, {"taskId": 7}, {"result": []}, {"recordId": ""}, {"merchant": "A b"}]
)
def test_the_schema_refuses_what_is_no_record(wrong: dict[str, Any]) -> None:
    record = json.loads((publish.FOLDER / "examples/documented.jsonl").read_text())
    assert not validator(publish.document()).is_valid(record | wrong)


def test_an_erasure_is_what_its_channel_says() -> None:
    document = publish.asyncapi()
    message = document["components"]["messages"]["contactErased"]
    asked = Erasure(b"demo:55667448", "0595debf", "anna@desk-1", datetime(2026, 11, 24, 3, 14, 15, 926_000, UTC))
    value = encode(asked)
    validator(closed(message["payload"])).validate(json.loads(value))
    assert not validator(message["payload"]).is_valid({"erasureId": "0595debf"})
    assert decode(asked.key, value) == asked
    assert re.match(message["bindings"]["kafka"]["key"]["pattern"], asked.key.decode())
    kafka = document["channels"]["erased"]["bindings"]["kafka"]
    assert (kafka["topic"], kafka["topicConfiguration"]["cleanup.policy"]) == ("dial-results.erased", ["compact"])


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [r for name, value in node.items() for r in ([value] if name == "$ref" else references(value))]
    return [r for value in node for r in references(value)] if isinstance(node, list) else []


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = publish.asyncapi()
    found = references(document)
    assert len(found) == 6
    for reference in found:
        node: Any = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


# Each incompatible change, made to the event itself where it can be, is told with what it breaks and for whom.


def event_like(**changes: Any) -> type[msgspec.Struct]:
    """`DialResult` with some fields changed: a type, (type, default), or None for one that is removed."""
    fields = {f.name: (f.name, f.type) for f in msgspec.structs.fields(DialResult)}
    fields["envelope"] = ("envelope", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET)  # type: ignore[assignment]
    for name, change in changes.items():
        fields[name] = (name, *change) if isinstance(change, tuple) else (name, change)
    kept = [field for name, field in fields.items() if changes.get(name, 0) is not None]
    return msgspec.defstruct("Changed", kept, rename="camel", kw_only=True)


READS = "every subscriber that reads it"
INCOMPATIBLE = {
    "rename": ({"task_id": None, "job_id": str}, ["`taskId` is gone (renamed to `jobId`?)", READS]),
    "removal": ({"source": None}, ["`source` is gone. Breaks", READS]),
    "new type": ({"task_id": int}, ["`taskId` has another form (type 'string' -> 'integer'", READS]),
    "optional": ({"source": (str, "callback")}, ["`source` may now be absent", "without asking whether it is there"]),
    "newly required": ({"channel": str}, ["`channel` is newly required", "28 days of records on the topic"]),
}


@pytest.mark.parametrize(("changes", "told"), INCOMPATIBLE.values(), ids=INCOMPATIBLE)
def test_an_incompatible_event_is_refused(changes: dict[str, Any], told: list[str]) -> None:
    broken = "\n".join(compatible.value_breaks(RELEASED_VALUE, publish.value_schema(event_like(**changes))))
    for part in told:
        assert part in broken


def test_an_added_optional_field_is_compatible() -> None:
    schema = publish.value_schema(event_like(channel=(str, "voice")))
    assert "channel" in schema["properties"]
    assert compatible.value_breaks(RELEASED_VALUE, schema) == []


def _set(*path: str, to: Any) -> Callable[[Any], None]:
    def change(node: Any) -> None:
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = to

    return change


MESSAGE = ("components", "messages", "dialResult")
TOPIC_CHANGES = {
    "topic's name": _set("channels", "dialResults", "address", to="dial-results-2"),
    "number of partitions": _set("channels", "dialResults", "bindings", "kafka", "partitions", to=24),
    "key": _set(*MESSAGE, "bindings", "kafka", "key", "pattern", to="^.*$"),
    "header `ce_type` has another form": _set(*MESSAGE, "headers", "properties", "ce_type", "const", to="other"),
    "header `ce_id` may now be absent": _set(*MESSAGE, "headers", "required", to=[]),
    "header `ce_id` is gone": _set(*MESSAGE, "headers", "properties", to={}),
}


@pytest.mark.parametrize(("message", "change"), TOPIC_CHANGES.items(), ids=TOPIC_CHANGES)
def test_an_incompatible_topic_is_refused(message: str, change: Callable[[Any], None]) -> None:
    document = copy.deepcopy(RELEASED_TOPIC)
    change(document)
    broken = "\n".join(compatible.topic_breaks(RELEASED_TOPIC, document))
    assert message in broken
    assert "Breaks every subscriber" in broken
