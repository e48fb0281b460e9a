"""Committed means done: a batch is written until it is settled, its rejects are dead-lettered, then it is committed."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from msgspec.structs import replace

from consumers.broker import REQUEST_S
from consumers.errors import Interrupted
from consumers.received import look_inside
from consumers.rejects import Outcome
from consumers.sink import EventsRejected, SinkUnavailable
from schemas import topics
from schemas.backoff import Backoff
from schemas.event import InvalidRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from aiokafka import AIOKafkaConsumer

    from consumers.buffer import Buffer
    from consumers.dead_letter import DeadLetters
    from consumers.metrics import Metrics
    from consumers.progress import Progress
    from consumers.received import Received
    from consumers.rejects import RejectRun
    from consumers.sink import Delivery, Sink
    from consumers.status import Status
    from consumers.tenure import Tenure

log = structlog.get_logger()


@dataclass(frozen=True)
class Parts:
    """What a writer works with."""

    consumer: AIOKafkaConsumer
    connect: Callable[[], AbstractAsyncContextManager[Sink]]
    buffer: Buffer
    dead_letters: DeadLetters
    tenure: Tenure
    progress: Progress
    rejects: RejectRun
    status: Status
    metrics: Metrics


class Writer:
    """Takes batches from the buffer, one after the other."""

    def __init__(self, parts: Parts, reject_hold_s: float, backoff: Backoff | None = None) -> None:
        self._parts = parts
        self._reject_hold_s = reject_hold_s
        self._backoff = backoff or Backoff()

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            TooManyRejects: the run of rejects is over the limit.
            Exception: whatever a sink raises beside its contract.
        """
        async with AsyncExitStack() as stack:
            sink = await self._connected(stack)
            while True:
                batch = await self._next()
                try:
                    with self._parts.tenure:
                        await self._deliver(sink, batch)
                except Interrupted:
                    log.info("batch_left_to_the_next_owner", events=len(batch))

    async def _connected(self, stack: AsyncExitStack) -> Sink:
        for failures in itertools.count(1):
            try:
                sink = await stack.enter_async_context(self._parts.connect())
            except SinkUnavailable as away:
                self._unavailable(away)
                await asyncio.sleep(self._backoff.wait_s(failures, away.retry_after_s))
            else:
                self._available()
                return sink
        raise AssertionError

    async def _next(self) -> list[Received]:
        """Wait for a batch; an empty one if rejects are held and there is nothing that could end their run."""
        while True:
            try:
                async with asyncio.timeout(self._reject_hold_s if self._parts.rejects.held else None):
                    return await self._parts.buffer.take()
            except TimeoutError:
                if self._parts.status.waiting == 0:  # else Kafka is slow to bring what is there
                    return []

    async def _deliver(self, sink: Sink, batch: Sequence[Received]) -> None:
        parts, tenure = self._parts, self._parts.tenure.number
        outcomes = await self._settle(sink, batch)
        parts.tenure.check(tenure)
        released = parts.rejects.judge(outcomes) if batch else parts.rejects.release()
        await self._dead_letter(released)
        parts.tenure.check(tenure)
        parts.progress.add(outcomes)
        await self._commit()
        parts.metrics.events_done.inc(sum(outcome.reason is None for outcome in outcomes))

    async def _settle(self, sink: Sink, batch: Sequence[Received]) -> list[Outcome]:
        """Write until every event is durable or rejected; say what became of each record, in order."""
        deliveries = await self._handed_over([received.delivery for received in batch if received.delivery])
        try:
            reasons, attempts = await self._write(sink, deliveries) if deliveries else ({}, 1)
        except InvalidRecord:  # rare: an event is decoded where it is used, and this one cannot be
            readable = [look_inside(received) for received in batch]
            if readable == batch:
                raise
            return await self._settle(sink, readable)
        return [
            Outcome(one, reasons.get(one.delivery.event.event_id) if one.delivery else one.reason, attempts)
            for one in batch
        ]

    async def _handed_over(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Tell replayed ones how far their live partition is committed: what is still to come, the live one brings."""
        originals = {one.original[0] for one in deliveries if one.original}
        if not originals:
            return deliveries
        consumer, progress = self._parts.consumer, self._parts.progress
        live = {
            place
            for place in consumer.assignment()
            if place.topic == topics.DIAL_RESULTS and place.partition in originals
        }
        await self._until_done("offsets_unknown", lambda: progress.learn(consumer, live))
        committed = {place.partition: progress.committed.get(place) for place in live}
        return [
            replace(one, live_committed=committed.get(one.original[0])) if one.original else one for one in deliveries
        ]

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
        began = time.perf_counter()
        try:
            await sink.write(deliveries)
        except EventsRejected as rejected:
            if strangers := rejected.reasons.keys() - {one.event.event_id for one in deliveries}:
                raise RuntimeError(f"the sink rejected {len(strangers)} events that it was not given") from rejected
            return rejected.reasons
        finally:
            self._parts.metrics.write_seconds.observe(time.perf_counter() - began)
        return {}

    async def _dead_letter(self, released: Sequence[Outcome]) -> None:
        if not released:
            return
        await self._until_done("dead_letters_not_written", lambda: self._parts.dead_letters.send(released))
        for outcome in released:
            self._parts.metrics.dead_letter(outcome.reason or "")
        log.warning("dead_lettered", events=len(released), reasons=sorted({one.reason or "" for one in released}))

    async def _commit(self) -> None:
        progress, offsets = self._parts.progress, self._parts.progress.to_commit(self._parts.rejects.held)
        if not offsets:
            return
        try:
            await self._until_done("commit_failed", lambda: self._parts.consumer.commit(offsets))
        except (CommitFailedError, IllegalStateError) as error:
            # The group has moved on without us: whoever has the partitions now redelivers, and the sink knows the ids.
            log.warning("commit_refused", error=type(error).__name__)
            return
        progress.committed.update(offsets)
        self._parts.metrics.last_commit.set_to_current_time()
        self._parts.status.steps += 1

    async def _until_done(self, problem: str, action: Callable[[], Awaitable[None]]) -> None:
        """Repeat what Kafka does not take now.

        Raises:
            CommitFailedError, IllegalStateError: the group has moved on.
            Interrupted: the tenure ended before it was done.
        """
        for failures in itertools.count(1):
            try:
                async with asyncio.timeout(2 * REQUEST_S):
                    return await action()
            except (CommitFailedError, IllegalStateError):
                raise
            except (KafkaError, TimeoutError) as error:
                log.warning(problem, error=type(error).__name__, failures=failures)
                await self._parts.tenure.pause(self._backoff.wait_s(failures))
        return None

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
