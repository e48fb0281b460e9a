"""A record as it came, and what it says."""

from __future__ import annotations

from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING

import msgspec

from consumers.records import Record
from consumers.sink import Delivery
from schemas import topics, wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.event import DialResult

_DIGITS = 19
_NAME = itemgetter(0)


class Received(msgspec.Struct, frozen=True, gc=False):
    """A record of Kafka with its delivery, or with the typed reason why it cannot be decoded."""

    record: Record
    delivery: Delivery | None
    reason: str | None = None


def receive_all(records: Sequence[Record]) -> list[Received]:
    """Read records of one partition, in one go where all of them are live and events, as they usually are."""
    if not records:
        return []
    topic, partition = records[0].topic, records[0].partition
    if topic == topics.DIAL_RESULTS:
        with suppress(wire.InvalidRecord):
            events = wire.decode_all([one.value or b"" for one in records])
            return [
                Received(one, Delivery(event, topic, partition, one.offset, None, None, _is_resent(one.headers)))
                for one, event in zip(records, events, strict=True)
            ]
    return [receive(one) for one in records]


def receive(record: Record) -> Received:
    """Read a record, the event's `record()` apart. Never raises: a record that is no event is an outcome too."""
    try:
        event = wire.decode(record.value)
    except wire.InvalidRecord as error:
        return Received(record, None, error.reason)
    if record.topic == topics.DIAL_RESULTS:
        delivery = Delivery(event, record.topic, record.partition, record.offset, resent=_is_resent(record.headers))
        return Received(record, delivery)
    return Received(record, _replayed(event, record))


def look_inside(received: Received) -> Received:
    """Decode what the event says, too; where that fails, the reason stands in the place of the delivery."""
    try:
        if received.delivery:
            received.delivery.event.record()
    except wire.InvalidRecord as error:
        return Received(received.record, None, error.reason)
    return received


def _is_resent(headers: Sequence[tuple[str, bytes]]) -> bool:
    """Look only where there are more headers than every event has."""
    return len(headers) > wire.HEADERS and topics.RESENT in map(_NAME, headers)


def _replayed(event: DialResult, record: Record) -> Delivery:
    """Everything in a replay topic is a replay, whatever its headers say."""
    headers = dict(record.headers)
    replay_id = headers.get(topics.REPLAY_ID, b"").decode(errors="replace")
    original = _number(headers.get(topics.ORIGINAL_PARTITION)), _number(headers.get(topics.ORIGINAL_OFFSET))
    place = None if original[0] is None or original[1] is None else (original[0], original[1])
    return Delivery(event, record.topic, record.partition, record.offset, replay_id, place)


def _number(header: bytes | None) -> int | None:
    """Read a partition or an offset, which has 64 bits at most; Python would raise at thousands of digits."""
    return int(header) if header and header.isdigit() and len(header) < _DIGITS else None
