"""The publisher: one task that follows the journal and moves its mark, which never runs ahead of the broker."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from receiver.ahead import Ahead
from receiver.broker import Broker, NotDelivered, connected
from receiver.recent import Recent
from receiver.window import BUSY, CALM, Window, decode_window
from schemas.backoff import Backoff
from schemas.topics import QUARANTINE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from receiver.counts import PublishCounts
    from receiver.journal import JournaledCallback
    from receiver.outgoing import Outgoing

log = structlog.get_logger()

WINDOW_CALLBACKS = 500
WINDOW_BYTES = 4_000_000  # of bodies; decoded they take about three times as much memory
_UNDER_WAY = 2  # windows: what a restart sends again at most
_CALM_CALLBACKS = 5_000  # while no more wait, publishing takes its time: that is a seventh of a second's work
_AHEAD = 2  # windows that are decoded meanwhile: a broker on a busy core takes 20 ms to answer
_BACKOFF = Backoff(first_s=0.25, most_s=5.0)  # an outage's end is noticed within that; a try is one small request


class Source(Protocol):
    """Where callbacks come from: a receiver's journal, or a part of one that an operator sends by hand."""

    @property
    def published(self) -> int:
        """The last sequence that is done."""

    @property
    def waiting(self) -> int:
        """How many are not done yet."""

    async def wait(self, after: int) -> None:
        """Return when there is something behind this sequence."""

    def read(self, after: int, max_callbacks: int, max_bytes: int) -> list[JournaledCallback]:
        """Return the next ones behind it. May block."""

    def mark_published(self, sequence: int) -> None:
        """Take note that the broker has everything up to here. May block."""


class Publisher:
    """Callbacks leave in the journal's order. What Kafka's state does to it is seen in `counts` and nowhere else."""

    def __init__(
        self,
        journal: Source,
        options: Mapping[str, Any],
        counts: PublishCounts,
        backoff: Backoff | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """`options` are aiokafka's, as `KafkaSettings.client_options` returns them; `headers` go on every record."""
        self._journal = journal
        self._options = options
        self._counts = counts
        self._headers = headers
        self._backoff = backoff or _BACKOFF
        self._recent = Recent()
        self._client = AsyncExitStack()
        self._broker: Broker | None = None
        self._failures = 0
        self._clock_ahead = False

    async def run(self) -> None:
        """Publish until cancelled; what follows is decoded while the broker is waited for.

        Raises what the journal raises, when everything before that is published: JournalFailed above all.
        """
        ahead = Ahead(self._next_window, self._journal.published, _AHEAD)
        under_way: deque[Window] = deque()
        try:
            while True:
                while not under_way or (len(under_way) < _UNDER_WAY and ahead.ready):
                    under_way.append(await ahead.take())
                await self._deliver(under_way)
                await self._settle(under_way)
        finally:
            await ahead.close()
            await self._disconnect()

    async def _next_window(self, after: int) -> Window:
        callbacks: list[JournaledCallback] = []
        while not callbacks:
            await self._journal.wait(after)
            callbacks = await asyncio.to_thread(self._journal.read, after, WINDOW_CALLBACKS, WINDOW_BYTES)
        pace = CALM if self._journal.waiting < _CALM_CALLBACKS else BUSY
        return await decode_window(callbacks, self._recent, self._headers, pace)

    async def _settle(self, under_way: deque[Window]) -> None:
        """Count the first windows, as far as all replicas have all of them, and move the mark behind them."""
        last = None
        while under_way and not under_way[0].waiting():
            window = under_way.popleft()
            self._count(window)
            last = window.last
        if last is not None:
            self._moving()
            await asyncio.to_thread(self._journal.mark_published, last)

    async def _deliver(self, under_way: Iterable[Window]) -> None:
        """Send once; after a failure wait, so that the next try is another moment's."""
        try:
            await self._send([outgoing for window in under_way for outgoing in window.waiting()])
        except NotDelivered as error:
            self._failures += 1
            await self._disconnect()
            self._stalled(error.reason)
            await asyncio.sleep(self._backoff.wait_s(self._failures))
        else:
            self._failures = 0

    async def _send(self, waiting: Sequence[Outgoing]) -> None:
        """Send what is first. Every round acknowledges something, sets a record aside, or makes it go alone."""
        broker = self._broker or await self._connect()
        too_large = await broker.send(waiting) if waiting else ()
        for outgoing in too_large:
            if outgoing.topic == QUARANTINE:  # then the topic is not as it should be, and a person has to see to it
                raise NotDelivered("quarantine-takes-less-than-a-body")
            outgoing.set_aside(self._headers)

    async def _connect(self) -> Broker:
        self._broker = await self._client.enter_async_context(connected(self._options))
        return self._broker

    async def _disconnect(self) -> None:
        """A client that failed once is never used again: the next one starts from the bootstrap servers."""
        self._broker = None
        await self._client.aclose()

    def _stalled(self, reason: str) -> None:
        self._counts.publish_failures += 1
        self._counts.kafka_up = False
        if reason != self._counts.stalled_for:
            self._counts.stalled_for = reason
            log.warning("publishing_stalled", reason=reason, waiting=self._journal.waiting)

    def _moving(self) -> None:
        self._counts.kafka_up = True
        self._counts.last_published_s = time.time()
        if self._counts.stalled_for:
            self._counts.stalled_for = ""
            log.info("publishing_goes_on", waiting=self._journal.waiting)

    def _count(self, window: Window) -> None:
        self._counts.published.update(window.published())
        self._counts.decoded += window.decoded()
        self._counts.quarantined.update(window.quarantined())
        self._counts.quarantine_records.update(window.quarantine_records())
        self._counts.empty += window.empty
        self._counts.repeats += window.repeats
        self._restamped(window.restamped())

    def _restamped(self, records: int) -> None:
        self._counts.restamped += records
        if bool(records) != self._clock_ahead:
            self._clock_ahead = bool(records)
            log.warning("times_refused_by_kafka" if records else "times_accepted_by_kafka", records=records)
