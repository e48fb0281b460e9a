"""What the publisher sends in one go: callbacks read from the journal, decoded into Kafka records."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from receiver.journal import JournaledCallback  # msgspec's fields are looked up
from schemas import topics, wire
from schemas.blu import BluRecord, CallbackBody, UnreadableCallback, decode_callback
from schemas.event import dial_result
from schemas.wire import KafkaRecord, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from receiver.recent import Recent

TOO_LARGE = "too-large"
_NO_TIME = -1  # Kafka's own word for it: always accepted, and kept by the time at which it was written

# Larger bodies are decoded in a thread: 1 MB takes up to 0.1 s, and nobody's answer shall wait that long.
_LARGE_BODY_BYTES = 32_768
# What the records of one body may grow to, each with its copy of the body's further members: memory has a bound.
_GROWN_BYTES = 16_000_000


class Pace(NamedTuple):
    """It decodes for so long at a stretch, then lets the broker's answers and the receiver's word in, and rests."""

    stretch_s: float
    rest_s: float


BUSY = Pace(0.002, 0)
CALM = Pace(0.0005, 0.001)
"""Leaves the core to acknowledging in between: a broker that answers twice a second makes 500 callbacks due at once."""


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


@dataclass(slots=True)
class Window:
    """Some callbacks in the journal's order, and the records that they make, in that order."""

    last: int
    outgoing: list[Outgoing] = field(default_factory=list)
    callbacks: int = 0
    empty: int = 0
    repeats: int = 0

    def waiting(self) -> list[Outgoing]:
        """Return what is not acknowledged yet, in order."""
        return [outgoing for outgoing in self.outgoing if not outgoing.done]

    def published(self) -> Counter[str]:
        """Count the results by merchant."""
        return Counter(sent.callback.merchant for sent in self.outgoing if sent.topic == topics.DIAL_RESULTS)

    def decoded(self) -> int:
        """Count the callbacks of which a result is published."""
        return len({sent.callback.sequence for sent in self.outgoing if sent.topic == topics.DIAL_RESULTS})

    def quarantined(self) -> Counter[str]:
        """Count the callbacks of which no result is published, by their first reason."""
        aside = [sent for sent in self.outgoing if sent.topic == topics.QUARANTINE]
        read = {sent.callback.sequence for sent in self.outgoing if sent.topic == topics.DIAL_RESULTS} if aside else ()
        reasons = {sent.callback.sequence: sent.reason for sent in reversed(aside)}
        return Counter(reason for sequence, reason in reasons.items() if sequence not in read)

    def quarantine_records(self) -> Counter[str]:
        """Count what went to the quarantine by reason."""
        return Counter(sent.reason for sent in self.outgoing if sent.topic == topics.QUARANTINE)

    def restamped(self) -> int:
        """Count the records that do not have the time of their callback."""
        return sum(sent.restamped for sent in self.outgoing)


async def decode_window(
    callbacks: Sequence[JournaledCallback],
    recent: Recent,
    headers: Sequence[tuple[str, bytes]] = (),
    pace: Pace = BUSY,
) -> Window:
    """Decode the callbacks, letting others run at this pace. Nothing that a body holds makes it fail.

    `headers` go on every record, besides its own.
    """
    window = Window(callbacks[-1].sequence, callbacks=len(callbacks))
    pause_at = time.perf_counter() + pace.stretch_s
    for callback in callbacks:
        if len(callback.body) > _LARGE_BODY_BYTES:
            made = await asyncio.to_thread(records_of, callback)
        else:
            made = records_of(callback)
        window.outgoing += made
        window.empty += not made
        if time.perf_counter() > pause_at:
            await asyncio.sleep(pace.rest_s)
            pause_at = time.perf_counter() + pace.stretch_s
    window.repeats = recent.repeats([_name(outgoing) for outgoing in window.outgoing if outgoing.index is not None])
    if headers:
        for outgoing in window.outgoing:
            outgoing.record.headers.extend(headers)
    return window


def records_of(callback: JournaledCallback) -> list[Outgoing]:
    """Return the records that a callback makes: its results, and its body with a reason where it cannot be read."""
    try:
        body = decode_callback(callback.body)
    except UnreadableCallback as error:
        return [_quarantined(callback, error.reason)]
    if len(body.envelope or b"") * len(body.records) > _GROWN_BYTES:
        return [_quarantined(callback, TOO_LARGE)]
    several = len(body.records) + len(body.unreadable) > 1
    results = [_result(callback, body, record, several=several) for record in body.records]
    return results + [_quarantined(callback, bad.reason, bad.index if several else None) for bad in body.unreadable]


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


def _result(callback: JournaledCallback, body: CallbackBody, record: BluRecord, *, several: bool) -> Outgoing:
    event = dial_result(callback.merchant, body.task_id, record, callback.received_ms, envelope=body.envelope)
    return Outgoing(topics.DIAL_RESULTS, wire.encode(event), callback, record.index, several)


def _quarantined(callback: JournaledCallback, reason: str, index: int | None = None) -> Outgoing:
    record = quarantine_record(callback, reason, index)
    return Outgoing(topics.QUARANTINE, record, callback, None, reason=reason)


def _name(outgoing: Outgoing) -> bytes:
    return outgoing.record.headers[1][1]  # ce_id
