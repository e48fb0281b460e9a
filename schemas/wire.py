"""How an event is written to Kafka, and read from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from . import exact
from .event import DialResult

if TYPE_CHECKING:
    from datetime import datetime

_encode_text = msgspec.json.encode
_decoder = msgspec.json.Decoder(DialResult)

_SPEC_VERSION = ("ce_specversion", b"1.0")
_TYPE = ("ce_type", b"blu.dial-result")
_CONTENT_TYPE = ("content-type", b"application/json")


class KafkaRecord(NamedTuple):
    """What goes to Kafka. `timestamp_ms` is the receiver's clock, never the vendor's."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    timestamp_ms: int


class InvalidRecord(ValueError):  # noqa: N818  # the name of the thing, as the contract calls it
    """A record that is no event of this contract. `reason` is typed: nothing of the record is in it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def encode(result: DialResult) -> KafkaRecord:
    """Write the event: self-contained JSON, CloudEvents 1.0 headers (Kafka binding, binary mode)."""
    received_at = timestamp(result.received_at).encode()
    event_id = result.event_id.encode()
    envelope = b"" if isinstance(result.envelope, msgspec.UnsetType) else b',"envelope":' + bytes(result.envelope)
    value = (
        b'{"eventId":"%b","merchant":%b,"taskId":%b,"recordId":%b,"receivedAt":"%b","source":"%b","result":%b%b}'
        % (
            event_id,
            _encode_text(result.merchant),
            _encode_text(result.task_id),
            _encode_text(result.record_id),
            received_at,
            result.source.encode(),
            bytes(result.result),
            envelope,
        )
    )
    headers = [
        _SPEC_VERSION,
        ("ce_id", event_id),
        _TYPE,
        ("ce_source", f"/merchants/{result.merchant}".encode()),
        ("ce_subject", f"{result.task_id}/{result.record_id}".encode()),
        ("ce_time", received_at),
        _CONTENT_TYPE,
    ]
    return KafkaRecord(result.key, value, headers, round(result.received_at.timestamp() * 1000))


def decode(value: bytes | None) -> DialResult:
    """Read an event; its `record()` is decoded already, so that no later use of it can fail.

    Raises:
        InvalidRecord: with reason `empty`, `not-json`, `not-an-event` or `too-deep`.
    """
    if not value:
        raise InvalidRecord("empty")
    try:
        result = _decoder.decode(value)
        result.record()
    except msgspec.ValidationError:
        raise InvalidRecord("not-an-event") from None
    except RecursionError:
        raise InvalidRecord("too-deep") from None
    except exact.FAILURES:
        raise InvalidRecord("not-json") from None
    return result


def timestamp(moment: datetime) -> str:
    """Write a moment as the contract does: `2026-11-24T03:14:15.926Z`."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
