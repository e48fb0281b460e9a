"""What the publisher sends in one go: callbacks read from the journal, decoded into Kafka records."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from receiver.outgoing import TOO_LARGE, Outgoing, quarantine_record
from schemas import topics, wire
from schemas.blu import BluRecord, CallbackBody, UnreadableCallback, decode_callback
from schemas.event import dial_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.journal import JournaledCallback
    from receiver.recent import Recent

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


def _result(callback: JournaledCallback, body: CallbackBody, record: BluRecord, *, several: bool) -> Outgoing:
    event = dial_result(callback.merchant, body.task_id, record, callback.received_ms, envelope=body.envelope)
    return Outgoing(topics.DIAL_RESULTS, wire.encode(event), callback, record.index, several)


def _quarantined(callback: JournaledCallback, reason: str, index: int | None = None) -> Outgoing:
    record = quarantine_record(callback, reason, index)
    return Outgoing(topics.QUARANTINE, record, callback, None, reason=reason)


def _name(outgoing: Outgoing) -> bytes:
    return outgoing.record.headers[1][1]  # ce_id
