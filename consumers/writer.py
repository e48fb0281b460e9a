"""Committed means done: a batch is written until it is settled, its rejects are dead-lettered, then it is committed.

The commit goes on beside the next batch's write: one at a time, and never of more than what is done.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import structlog
from aiokafka.errors import CommitFailedError, IllegalStateError

from consumers.errors import Interrupted
from schemas.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from aiokafka import AIOKafkaConsumer, TopicPartition

    from consumers.buffer import Buffer
    from consumers.dead_letter import DeadLetters
    from consumers.expired import Expired
    from consumers.metrics import Metrics
    from consumers.progress import Progress
    from consumers.received import Received
    from consumers.rejects import Outcome, RejectRun
    from consumers.settling import Settling
    from consumers.sink import Sink
    from consumers.status import Status
    from consumers.suppression import Suppression
    from consumers.tenure import Tenure

    Offsets: TypeAlias = dict[TopicPartition, int]

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
    expired: Expired
    suppression: Suppression
    rejects: RejectRun
    status: Status
    metrics: Metrics


class Writer:
    """Takes batches from the buffer, one after the other."""

    def __init__(self, parts: Parts, settling: Settling, reject_hold_s: float) -> None:
        self._parts = parts
        self._reject_hold_s = reject_hold_s
        self._backoff = Backoff()
        self._settling = settling
        self._commits = asyncio.Lock()

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            TooManyRejects: the run of rejects is over the limit.
            Exception: whatever a sink raises beside its contract.
        """
        async with AsyncExitStack() as stack:
            sink = await self._settling.connected(stack)
            try:
                async with asyncio.TaskGroup() as beside:
                    while True:
                        await self._take(sink, beside)
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from None

    async def _take(self, sink: Sink, beside: asyncio.TaskGroup) -> None:
        """Deliver one batch; begin to commit what is done by then."""
        batch, parts = await self._next(), self._parts
        with parts.tenure, self._until_interrupted(len(batch)):
            outcomes = await self._deliver(sink, batch)
            # Of this assignment, which may end meanwhile.
            offsets, committed = parts.progress.to_commit(parts.rejects.held), parts.progress.committed
            parts.tenure.hold()
            commit = beside.create_task(self._commit_beside(outcomes, offsets, committed))
            commit.add_done_callback(lambda _: parts.tenure.let_go())

    @contextmanager
    def _until_interrupted(self, events: int) -> Iterator[None]:
        try:
            yield
        except Interrupted:
            log.info("batch_left_to_the_next_owner", events=events)

    async def _commit_beside(self, outcomes: Sequence[Outcome], offsets: Offsets, committed: Offsets) -> None:
        """Commit while the next batch is written; who ends the tenure waits for this too."""
        async with self._commits:
            with self._until_interrupted(len(outcomes)):
                if offsets:
                    await self._commit(offsets, committed)
                self._parts.metrics.events_done.inc(sum(outcome.reason is None for outcome in outcomes))

    async def _next(self) -> list[Received]:
        """Wait for a batch; an empty one if rejects are held and there is nothing that could end their run."""
        while True:
            try:
                async with asyncio.timeout(self._reject_hold_s if self._parts.rejects.held else None):
                    return await self._parts.buffer.take()
            except TimeoutError:
                if self._parts.status.waiting == 0:  # else Kafka is slow to bring what is there
                    return []

    async def _deliver(self, sink: Sink, batch: Sequence[Received]) -> list[Outcome]:
        parts, tenure = self._parts, self._parts.tenure.number
        await self._insist("erased_contacts_unknown", lambda: parts.suppression.be_sure(tenure))
        await self._insist("offsets_unknown", lambda: parts.expired.before(batch))
        outcomes = await self._settling.settle(sink, batch)
        async with self._commits:  # of the batch before: it is committed whatever becomes of this one
            parts.tenure.check(tenure)
        released = parts.rejects.judge(outcomes) if batch else parts.rejects.release()
        await self._dead_letter(released)
        parts.tenure.check(tenure)
        parts.progress.add(outcomes)
        return outcomes

    async def _dead_letter(self, rejected: Sequence[Outcome]) -> None:
        released = [one for one in rejected if not self._parts.suppression.holds_record(one.received)]
        if not released:
            return
        await self._insist("dead_letters_not_written", lambda: self._parts.dead_letters.send(released))
        for outcome in released:
            self._parts.metrics.dead_letter(outcome.reason or "")
        log.warning("dead_lettered", events=len(released), reasons=sorted({one.reason or "" for one in released}))

    async def _commit(self, offsets: Offsets, committed: Offsets) -> None:
        try:
            await self._insist("commit_failed", lambda: self._parts.consumer.commit(offsets))
        except (CommitFailedError, IllegalStateError) as error:
            # The group has moved on without us: whoever has the partitions now redelivers, and the sink knows the ids.
            log.warning("commit_refused", error=type(error).__name__)
            return
        committed.update(offsets)
        self._parts.metrics.last_commit.set_to_current_time()
        self._parts.status.steps += 1

    async def _insist(self, problem: str, action: Callable[[], Awaitable[None]]) -> None:
        await self._parts.tenure.insist(problem, action, self._backoff)
