"""One consumer: fetch, write and commit side by side; partitions that come and go; an orderly end.

```
Fetcher ──▶ Buffer ──▶ Writer: sink.write until settled ─▶ dead letters of the rejected ─▶ commit
   └ polls on while the buffer is full (the sink is away): partitions paused, membership alive
```

In memory: two batches (one written, one gathered), a third while its commit is under way, what one fetch of each broker
brings beyond that, and the rejects that are held back.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from consumers import broker
from consumers.buffer import Buffer
from consumers.dead_letter import DeadLetters
from consumers.erasing import Eraser
from consumers.errors import KafkaRefuses
from consumers.expired import Expired
from consumers.fetching import Fetcher
from consumers.progress import Progress
from consumers.rejects import RejectRun
from consumers.settling import Settling
from consumers.status import Status
from consumers.suppression import Suppression
from consumers.tenure import Tenure
from consumers.watch import Watch, Watchdog
from consumers.writer import Parts, Writer
from schemas import topics
from schemas.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from consumers.erasing import Receipts
    from consumers.metrics import Metrics
    from consumers.settings import ConsumerSettings
    from consumers.sink import Batching, Sink

log = structlog.get_logger()

_CANCEL_S = 3.5  # for everything to let go, after the write in progress had its grace


@dataclass(frozen=True)
class Destination:
    """What the delivery loop knows of a sink. `version` is that of our code, for dead letters."""

    name: str
    connect: Callable[[], AbstractAsyncContextManager[Sink]]
    batching: Batching
    version: str
    receipts: Receipts | None = None
    """Where it says that a contact is erased; None: only in the log."""


class Consumer(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka's base class is untyped
    """Reads `dial-results` and its own replay topic into one sink."""

    def __init__(
        self, destination: Destination, settings: ConsumerSettings, kafka_options: Mapping[str, Any], metrics: Metrics
    ) -> None:
        self.status = Status()
        self._destination = destination
        self._settings = settings
        self._kafka_options = kafka_options
        self._metrics = metrics
        self._buffer = Buffer(destination.batching)
        self._tenure = Tenure()
        self._progress = Progress()
        self._rejects = RejectRun(settings.reject_limit)
        self._fetcher: Fetcher | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; then finish the write in progress, commit, and leave the group, in under 10 s.

        Raises:
            ConsumerStops: a reason to end by itself, with its exit code.
            Exception: a bug, in a sink or here. Nothing is committed that is not done.
        """
        work, stopped = asyncio.create_task(self._work()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await self._finish()
        finally:
            stopped.cancel()
            work.cancel()
            await asyncio.wait((work, stopped), timeout=_CANCEL_S)
        if work.done() and not work.cancelled() and (error := work.exception()):
            raise error

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Let go: what waits is dropped, what is being written may finish and be committed."""
        self.status.joined = False
        self._buffer.shut()
        if not await self._tenure.end(broker.LET_GO_S):
            log.warning("write_outlasts_rebalance", waited_s=broker.LET_GO_S)
        self._forget()
        log.info("partitions_revoked", partitions=len(revoked))

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Begin where the group's offsets say. Awaits nothing, or a record might come and meet a shut buffer."""
        self._forget()
        if self.status.stopping:
            return
        self._tenure.begin()
        self._buffer.open()
        if self._fetcher:
            self._fetcher.assigned()
        self.status.joined = True
        self.status.steps += 1
        log.info("partitions_assigned", partitions=len(assigned))

    def _forget(self) -> None:
        self._rejects.clear()
        self._progress.clear()

    async def _finish(self) -> None:
        """The write in progress, its dead letters and its commit still happen; nothing new is begun."""
        self.status.stopping = True
        self._buffer.shut()
        if not await self._tenure.end(self._settings.stop_grace_s):
            log.warning("write_abandoned", waited_s=self._settings.stop_grace_s)

    async def _work(self) -> None:
        async with AsyncExitStack() as stack:
            consumer, dead_letters, suppression = await self._opened(stack)
            self._fetcher = Fetcher(consumer, self._buffer)
            parts = self._parts(consumer, dead_letters, suppression)
            settling = Settling(parts, Backoff())
            writer = Writer(parts, settling, self._settings.reject_hold_s)
            eraser = Eraser(parts, settling, self._destination.receipts)
            watchdog = Watchdog(self._settings.watchdog_s)
            watch = Watch(parts, self._fetcher, watchdog)
            consumer.subscribe([topics.DIAL_RESULTS, topics.replay(self._destination.name)], listener=self)
            try:
                async with asyncio.TaskGroup() as group:
                    for part in (suppression, self._fetcher, writer, watch, eraser):
                        group.create_task(part.run())
            except BaseExceptionGroup as group:
                raise _cause(group) from None

    def _parts(self, consumer: AIOKafkaConsumer, dead_letters: DeadLetters, suppression: Suppression) -> Parts:
        return Parts(
            consumer=consumer,
            connect=self._destination.connect,
            buffer=self._buffer,
            dead_letters=dead_letters,
            tenure=self._tenure,
            progress=self._progress,
            expired=Expired(consumer, self._progress, self.status, self._metrics),
            suppression=suppression,
            rejects=self._rejects,
            status=self.status,
            metrics=self._metrics,
        )

    async def _opened(self, stack: AsyncExitStack) -> tuple[AIOKafkaConsumer, DeadLetters, Suppression]:
        """Open the clients, waiting for Kafka for ever.

        Raises:
            TopicsUnfit: Kafka is there, and a topic is not.
        """
        name, backoff = self._destination.name, Backoff()
        for failures in itertools.count(1):
            try:
                async with AsyncExitStack() as trial:
                    await broker.check_topics(self._kafka_options, name)
                    consumer = await trial.enter_async_context(
                        broker.consuming(self._kafka_options, name, self._settings.session_timeout_s)
                    )
                    producer = await trial.enter_async_context(broker.producing(self._kafka_options, name))
                    reader = await trial.enter_async_context(broker.reading(self._kafka_options, name))
                    await stack.enter_async_context(trial.pop_all())
                    return consumer, DeadLetters(producer, name, self._destination.version), Suppression(reader)
            except (KafkaError, TimeoutError) as error:
                log.warning("kafka_not_reached", error=type(error).__name__, failures=failures)
                await asyncio.sleep(backoff.wait_s(failures))
        raise AssertionError


def _cause(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return what ended the parts: the first error, one of Kafka's as a reason to be started again."""
    error = group.exceptions[0]
    if isinstance(error, KafkaError):
        return KafkaRefuses(f"Kafka refuses: {type(error).__name__}")
    return error
