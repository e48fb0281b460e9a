"""`python -m schemas.publish`: writes the contract for machines, from the code that keeps it. A test compares.

`dial-result.schema.json` is the value, `asyncapi.yaml` (3.0) the topics with key and headers, `examples/*.jsonl` what
the bodies in `examples/callbacks` become, byte for byte. Needs the `dev` extra (PyYAML); no process imports this.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from . import topics, wire
from .blu import MAX_ID_LENGTH, decode_callback
from .erasure import Erasure, ErasureValue, encode
from .event import CALLBACK, RECONCILE, DialResult, dial_result

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "1.0.0"
"""Of the contract, not of the programs: the first number changes only with the topic's name."""

FOLDER = Path(__file__).parent
CALLBACKS = FOLDER / "examples/callbacks"
RECEIVED_MS = 1_795_490_055_926  # 2026-11-24T03:14:15.926Z

_MERCHANT = "[a-z0-9-]{1,63}"
_FIELDS: dict[str, dict[str, Any]] = {
    "eventId": {"description": "The result's identity, the same for every repeat and replay: drop what you have seen."},
    "merchant": {"description": "Whose result it is.", "pattern": f"^{_MERCHANT}$"},
    "taskId": {"description": "Blu's task, as text: no digit changes, leading zeros stay."},
    "recordId": {"description": "The merchant's own contact record: Blu's `id`, as text.", "maxLength": MAX_ID_LENGTH},
    "receivedAt": {"description": "When the receiver took it, UTC, in milliseconds; not when the call was made."},
    "source": {
        "description": "`callback`, or `reconcile`: asked from Blu later. Treat an unknown one as `callback`.",
        "examples": [CALLBACK, RECONCILE],
    },
    "result": {
        "description": "Blu's record, whole, by Blu's own names. Unknown fields and codes are normal. Personal data.",
        "type": "object",
        "properties": {
            "id": {"description": "Blu's own; `recordId` is the same as text.", "type": ["integer", "string"]},
            "name": {"description": "The person's name, as uploaded."},
            "mobile": {"description": "Masked by Blu: text, not a telephone number."},
            "extVars": {"description": "What the merchant uploaded; an object where Blu sent one, also in a string."},
            "callVars": {"description": "Likewise, what was read out."},
        },
        "required": ["id"],
    },
    "envelope": {"description": "What the callback said beside `taskId` and `records`.", "type": "object"},
}

_ERASED_FIELDS: dict[str, dict[str, Any]] = {
    "erasureId": {"description": "The erasure's own; receipts in `ops.erasure_receipt` name it."},
    "who": {"description": "Who asked for it: an operator's user and machine, nobody that Blu called."},
    "requestedAt": {"description": "When, UTC."},
}


def main() -> None:
    """Write every file anew."""
    for path, content in files().items():
        path.write_bytes(content)
        print(path.relative_to(FOLDER.parent))  # noqa: T201  # a command


def files() -> dict[Path, bytes]:
    """Return what is published: each path and its content."""
    return {
        FOLDER / "dial-result.schema.json": (json.dumps(document(), indent=2) + "\n").encode(),
        FOLDER / "asyncapi.yaml": yaml.safe_dump(asyncapi(), sort_keys=False, width=120).encode(),
        **{FOLDER / f"examples/{body.stem}.jsonl": _lines(body) for body in sorted(CALLBACKS.glob("*.txt"))},
    }


def document() -> dict[str, Any]:
    """Return the value's JSON Schema as a document of its own."""
    about = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Dial result", "version": VERSION}
    return about | value_schema(DialResult)


def value_schema(event: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the JSON Schema (draft 7) of the value, open to fields that are added."""
    written = msgspec.json.schema(event)["$defs"][event.__name__]
    fields = {name: schema | _FIELDS.get(name, {}) for name, schema in written["properties"].items()}
    return {"type": "object", "properties": fields, "required": written["required"], "additionalProperties": True}


def headers_schema() -> dict[str, Any]:
    """Return the schema of the headers, as they are written: what is the same in two unlike records is fixed."""
    (_, one), (_, other) = (_record("documented"), _record("several"))
    fixed = set(one.headers) & set(other.headers)
    properties: dict[str, Any] = {}
    for name, value in one.headers:
        properties[name] = {"type": "string"} | ({"const": value.decode()} if (name, value) in fixed else {})
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": True}


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI document of both topics that subscribers read, seen from the side that writes them."""
    deleted = {"cleanup.policy": ["delete"], "retention.ms": topics.RETENTION_MS}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Dial results",
            "version": VERSION,
            "description": "Every result of a call that Blu made, at least once. The promises are in docs/contract.md.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "dialResults": _channel(topics.DIAL_RESULTS, "dialResult", deleted),
            "erased": _channel(topics.erased(), "contactErased", {"cleanup.policy": ["compact"]}),
        },
        "operations": {
            "publishDialResult": _sends("dialResults", "dialResult"),
            "publishErasure": _sends("erased", "contactErased"),
        },
        "components": {"messages": {"dialResult": _message(), "contactErased": _erased()}},
    }


def _sends(channel: str, message: str) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }


def _channel(topic: str, message: str, kept: dict[str, Any]) -> dict[str, Any]:
    (spec,) = (spec for spec in topics.topic_specs(3) if spec.name == topic)
    return {
        "address": spec.name,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {
            "kafka": {
                "topic": spec.name,
                "partitions": spec.partitions,
                "replicas": spec.replication_factor,
                "topicConfiguration": kept | {"max.message.bytes": topics.MAX_RECORD_BYTES},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _message() -> dict[str, Any]:
    _, record = _record("documented")
    example = {
        "name": "documented",
        "summary": "What Blu's own documented callback becomes.",
        "headers": {name: value.decode() for name, value in record.headers},
        "payload": json.loads(record.value),
    }
    return {
        "name": "dial-result",
        "title": "Dial result",
        "summary": "What Blu said of one finished call to one contact in one task.",
        "contentType": "application/json",
        "headers": headers_schema(),
        "payload": value_schema(DialResult),
        "bindings": _keyed(),
        "examples": [example],
    }


def _erased() -> dict[str, Any]:
    written = msgspec.json.schema(ErasureValue)["$defs"]["ErasureValue"]
    fields = {name: schema | _ERASED_FIELDS[name] for name, schema in written["properties"].items()}
    requested_at = datetime.fromtimestamp(RECEIVED_MS // 1_000, UTC)
    example = json.loads(encode(Erasure(b"", "0595debf-ef57-4ff4-9377-b8b01f0d1631", "anna@desk-1", requested_at)))
    return {
        "name": "contact-erased",
        "title": "A contact that is to be forgotten",
        "summary": (
            "Erase what you keep of the contact in the key, and leave it out from then on, in replays too. "
            "A record without a value ends that."
        ),
        "contentType": "application/json",
        "payload": {
            "type": "object",
            "properties": fields,
            "required": written["required"],
            "additionalProperties": True,
        },
        "bindings": _keyed(),
        "examples": [{"name": "erased", "payload": example}],
    }


def _keyed() -> dict[str, Any]:
    key = {"type": "string", "pattern": f"^{_MERCHANT}:", "description": "{merchant}:{recordId}"}
    return {"kafka": {"key": key, "bindingVersion": "0.5.0"}}


def _record(name: str) -> tuple[DialResult, wire.KafkaRecord]:
    *_, event = results(CALLBACKS / f"{name}.txt")
    return event, wire.encode(event)


def results(body: Path) -> Iterator[DialResult]:
    """Give the events of a body; whose name begins with `reconciled` counts as asked from Blu later."""
    callback = decode_callback(body.read_bytes())
    merchant = "acme" if body.stem == "several" else "demo"
    source = RECONCILE if body.stem.startswith("reconciled") else CALLBACK
    for place, record in enumerate(callback.records):
        received_ms = RECEIVED_MS + place
        yield dial_result(merchant, callback.task_id, record, received_ms, source=source, envelope=callback.envelope)


def _lines(body: Path) -> bytes:
    return b"".join(wire.encode(event).value + b"\n" for event in results(body))


if __name__ == "__main__":
    main()
