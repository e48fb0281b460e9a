"""How an event is written to Kafka, and read from it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from . import exact
from .event import UUID, DialResult, InvalidRecord, refusal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = ["HEADERS", "InvalidRecord", "KafkaRecord", "decode", "decode_all", "encode", "timestamp"]

_encode_text = msgspec.json.encode
_decoder = msgspec.json.Decoder(DialResult)
_is_uuid = re.compile(UUID).fullmatch
_are_uuids = re.compile(rf"(?:{UUID.strip('^$')}\n)*+").fullmatch

_SPEC_VERSION = ("ce_specversion", b"1.0")
_TYPE = ("ce_type", b"blu.dial-result")
_LINE = 37  # an id and its end
_OPENING_BRACE = ord("{")
_CONTENT_TYPE = ("content-type", b"application/json")

HEADERS = 7
"""How many headers an event has; what has more says something besides, as `re-sent`."""


class KafkaRecord(NamedTuple):
    """What goes to Kafka. `timestamp_ms` is the receiver's clock, never the vendor's."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    timestamp_ms: int


def encode(result: DialResult) -> KafkaRecord:
    """Write the event: self-contained JSON, CloudEvents 1.0 headers (Kafka binding, binary mode)."""
    received_at, timestamp_ms = _time(result.received_at)
    merchant, source = _merchant(result.merchant)
    event_id = result.event_id.encode()
    envelope = b"" if isinstance(result.envelope, msgspec.UnsetType) else b',"envelope":' + bytes(result.envelope)
    value = (
        b'{"eventId":"%b","merchant":%b,"taskId":%b,"recordId":%b,"receivedAt":"%b","source":"%b","result":%b%b}'
        % (
            event_id,
            merchant,
            _encode_text(result.task_id),
            _encode_text(result.record_id),
            received_at,
            result.source.encode(),
            result.result,
            envelope,
        )
    )
    headers = [
        _SPEC_VERSION,
        ("ce_id", event_id),
        _TYPE,
        source,
        ("ce_subject", f"{result.task_id}/{result.record_id}".encode()),
        ("ce_time", received_at),
        _CONTENT_TYPE,
    ]
    return KafkaRecord(result.key, value, headers, timestamp_ms)


@lru_cache(maxsize=1024)
def _merchant(name: str) -> tuple[bytes, tuple[str, bytes]]:
    """Return the merchant as JSON, and the header that names it as the event's source."""
    return _encode_text(name), ("ce_source", f"/merchants/{name}".encode())


@lru_cache(maxsize=64)  # at full speed twenty callbacks share a millisecond
def _time(moment: datetime) -> tuple[bytes, int]:
    """Return the moment as the contract writes it, and in milliseconds since 1970."""
    return timestamp(moment).encode(), round(moment.timestamp() * 1000)


def decode(value: bytes | None) -> DialResult:
    """Read an event. Of `result` only the JSON is looked at: `record()` decodes it, for those who want it.

    Raises:
        InvalidRecord: with reason `empty`, `not-json`, `not-an-event` or `too-deep`.
    """
    if not value:
        raise InvalidRecord("empty")
    try:
        result = _decoder.decode(value)
    except exact.FAILURES as error:
        raise refusal(error) from None
    if memoryview(result.result)[0] != _OPENING_BRACE or not _is_uuid(result.event_id):
        raise InvalidRecord("not-an-event")
    return result


def decode_all(values: Sequence[bytes]) -> list[DialResult]:
    """Read many events, all of them or none: two thirds of what `decode` takes for each.

    Raises:
        InvalidRecord: one of them is none; `decode` says which, and why.
    """
    try:
        results = list(map(_decoder.decode, values))
    except exact.FAILURES as error:
        raise refusal(error) from None
    ids, begin = "".join([f"{one.event_id}\n" for one in results]), {memoryview(one.result)[0] for one in results}
    if len(ids) != len(results) * _LINE or not _are_uuids(ids) or not begin <= {_OPENING_BRACE}:
        raise InvalidRecord("not-an-event")
    return results


def timestamp(moment: datetime) -> str:
    """Write a moment, aware and UTC, as the contract does: `2026-11-24T03:14:15.926Z`."""
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
