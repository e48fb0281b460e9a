"""Writes a batch until it is settled: every event of it durable, or refused for good."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING

import structlog

from consumers.ahead import ahead
from consumers.received import look_inside
from consumers.rejects import Outcome
from consumers.sink import EventsRejected, SinkUnavailable
from schemas.event import InvalidRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AsyncExitStack

    from consumers.ahead import Place
    from consumers.received import Received
    from consumers.sink import Delivery, Sink
    from consumers.writer import Parts
    from schemas.backoff import Backoff

log = structlog.get_logger()


class Settling:
    """The only one that calls the sink."""

    def __init__(self, parts: Parts, backoff: Backoff) -> None:
        self._parts = parts
        self._backoff = backoff
        self._connected: asyncio.Future[Sink] = asyncio.get_running_loop().create_future()
        self._one_at_a_time = asyncio.Lock()

    async def connected(self, stack: AsyncExitStack) -> Sink:
        """Connect to the destination, trying for ever while it is away."""
        for failures in itertools.count(1):
            try:
                sink = await stack.enter_async_context(self._parts.connect())
            except SinkUnavailable as away:
                self._unavailable(away)
                await asyncio.sleep(self._backoff.wait_s(failures, away.retry_after_s))
            else:
                self._available()
                self._connected.set_result(sink)
                return sink
        raise AssertionError

    async def erase(self, merchant: str, record_id: str) -> str:
        """Erase one contact, trying for ever while the destination is away; return what remains there."""
        sink = await asyncio.shield(self._connected)
        for attempt in itertools.count(1):
            try:
                async with self._one_at_a_time:
                    return await sink.erase(merchant, record_id)
            except SinkUnavailable as away:
                log.warning("not_erased_yet", reason=away.reason, attempts=attempt)
                await asyncio.sleep(self._backoff.wait_s(attempt, away.retry_after_s))
        raise AssertionError

    async def settle(self, sink: Sink, batch: Sequence[Received]) -> list[Outcome]:
        """Write until every event is durable or rejected; say what became of each record, in order.

        Raises:
            Interrupted: the tenure ended first.
            Exception: whatever a sink raises beside its contract.
        """
        deliveries = [received.delivery for received in batch if received.delivery]
        left = await self._left_to_live(deliveries)
        due = [one for one in deliveries if one.original not in left] if left else deliveries
        try:
            reasons, attempts = await self._write(sink, due) if due else ({}, 1)
        except InvalidRecord:  # rare: an event is decoded where it is used, and this one cannot be
            readable = [look_inside(received) for received in batch]
            if readable == batch:
                raise
            return await self.settle(sink, readable)
        self._parts.metrics.left_to_live.inc(len(deliveries) - len(due))
        return [
            Outcome(one, reasons.get(one.delivery.event.event_id) if reasons and one.delivery else one.reason, attempts)
            for one in batch
        ]

    async def _left_to_live(self, deliveries: Sequence[Delivery]) -> set[Place]:
        """Return the originals of replayed ones that are still to come: the live one brings them, in its order."""
        originals = {one.original for one in deliveries if one.original}
        left: set[Place] = set()

        async def look() -> None:
            left.update(await ahead(self._parts.consumer, self._parts.progress, originals))

        if originals:
            await self._parts.tenure.insist("offsets_unknown", look, self._backoff)
        return left

    async def _write(self, sink: Sink, deliveries: Sequence[Delivery]) -> tuple[dict[str, str], int]:
        for attempt in itertools.count(1):
            try:
                reasons = await self._attempt(sink, deliveries)
            except SinkUnavailable as away:
                self._unavailable(away)
                await self._parts.tenure.pause(self._backoff.wait_s(attempt, away.retry_after_s))
            else:
                self._available()
                return reasons, attempt
        raise AssertionError

    async def _attempt(self, sink: Sink, deliveries: Sequence[Delivery]) -> dict[str, str]:
        """Call the sink once. Returns what it rejected."""
        async with self._one_at_a_time:
            began = time.perf_counter()
            # Looked up here: an erasure that was heard of since the batch came is done before this, or behind it.
            left = self._parts.suppression.spares(deliveries)
            self._parts.metrics.suppressed.inc(len(deliveries) - len(left))
            return await self._call(sink, left, began) if left else {}

    async def _call(self, sink: Sink, deliveries: Sequence[Delivery], began: float) -> dict[str, str]:
        try:
            await sink.write(deliveries)
        except EventsRejected as rejected:
            if strangers := rejected.reasons.keys() - {one.event.event_id for one in deliveries}:
                raise RuntimeError(f"the sink rejected {len(strangers)} events that it was not given") from rejected
            return rejected.reasons
        finally:
            self._parts.metrics.write_seconds.observe(time.perf_counter() - began)
        return {}

    def _available(self) -> None:
        status = self._parts.status
        if not status.sink_available:
            log.info("sink_available")
        status.sink_available, status.sink_reason = True, ""
        status.steps += 1
        self._parts.metrics.sink_available.set(1)

    def _unavailable(self, away: SinkUnavailable) -> None:
        status = self._parts.status
        if status.sink_available or status.sink_reason != away.reason:
            log.warning("sink_unavailable", reason=away.reason, retry_after_s=away.retry_after_s)
        status.sink_available, status.sink_reason = False, away.reason
        self._parts.metrics.sink_available.set(0)
