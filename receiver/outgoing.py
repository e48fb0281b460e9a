"""One record on its way to Kafka, and what it turns into where the broker will not have it as it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from receiver.journal import JournaledCallback  # msgspec's fields are looked up
from schemas import topics
from schemas.wire import KafkaRecord, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TOO_LARGE = "too-large"
_NO_TIME = -1  # Kafka's own word for it: always accepted, and kept by the time at which it was written


class Outgoing(msgspec.Struct):
    """One record on its way. `index` is the place of its result in the callback; None for a quarantined body."""

    topic: str
    record: KafkaRecord
    callback: JournaledCallback
    index: int | None
    several: bool = False
    """The callback has more than one result."""
    reason: str = ""
    """Why it is quarantined."""
    alone: bool = False
    """To be sent in a batch of its own, to see whether it is the one that is too large."""
    done: bool = False
    """Acknowledged by the broker, or replaced by its quarantine record."""
    restamped: bool = False
    """Sent with another time than that of the callback, or none: see `restamp`."""
    hashed: int = -1
    """The hash of its key, once it was asked for."""

    def place(self, partitions: Mapping[str, int]) -> tuple[str, int]:
        """Return topic and partition; `partitions` says how many each topic has."""
        if self.hashed < 0:
            self.hashed = topics.hash_of(self.record.key)
        return self.topic, self.hashed % partitions[self.topic]

    def set_aside(self, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Have the body go to the quarantine, as the broker will not take the result; `headers` as on every record."""
        self.record = quarantine_record(self.callback, TOO_LARGE, self.index if self.several else None)
        self.record.headers.extend(headers)
        self.topic, self.reason = topics.QUARANTINE, TOO_LARGE
        self.index, self.hashed = None, -1


def quarantine_record(callback: JournaledCallback, reason: str, index: int | None = None) -> KafkaRecord:
    """Return the body as it came, with why it is kept; `index` is the place of the bad one of many."""
    headers = [
        (topics.REASON, reason.encode()),
        (topics.MERCHANT, callback.merchant.encode()),
        (topics.RECEIVED_AT, timestamp(datetime.fromtimestamp(callback.received_ms / 1000, UTC)).encode()),
    ]
    if index is not None:
        headers.append((topics.RECORD_INDEX, str(index).encode()))
    return KafkaRecord(callback.merchant.encode(), callback.body, headers, callback.received_ms)


def restamp(refused: Sequence[Outgoing], now_ms: int) -> bool:
    """Change the Kafka timestamps of a batch that lies over an hour ahead of the broker's clock, which it refuses.

    Those ahead of our own clock get its time: it was ahead when they came, and is not any more. Where none is, our
    clock itself is ahead, and they get no time. `receivedAt` stays what it was. Returns False if nothing is left to
    change.
    """
    ahead = [outgoing for outgoing in refused if outgoing.record.timestamp_ms > now_ms]
    time_ms = now_ms if ahead else _NO_TIME
    changed = [outgoing for outgoing in ahead or refused if outgoing.record.timestamp_ms != time_ms]
    for outgoing in changed:
        outgoing.record = outgoing.record._replace(timestamp_ms=time_ms)
        outgoing.restamped = True
    return bool(changed)
