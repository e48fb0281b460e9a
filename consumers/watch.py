"""Measures the lag, and ends a process that stands still."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

import structlog
from aiokafka.errors import KafkaError

from consumers.broker import REQUEST_S
from consumers.errors import StandsStill
from schemas import topics

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from aiokafka import TopicPartition

    from consumers.fetching import Fetcher
    from consumers.status import Status
    from consumers.writer import Parts

log = structlog.get_logger()

SAMPLE_S = 1.0
_NO_DELAY = 1_000  # live records that are done in a moment: no reason to hold up replays
UNKNOWN_S = 300.0
"""Without an answer from Kafka for so long a new client is tried: aiokafka knows only the brokers last named to it."""


class _Lag(NamedTuple):
    """Counts of records: not committed yet, live and replayed; of both, neither done nor held back."""

    live: int
    replay: int
    waiting: int


class Watch:
    """Looks once a second."""

    def __init__(self, parts: Parts, fetcher: Fetcher, watchdog: Watchdog) -> None:
        self._parts = parts
        self._consumer = parts.consumer
        self._progress = parts.progress
        self._status = parts.status
        self._metrics = parts.metrics
        self._fetcher = fetcher
        self._watchdog = watchdog
        self._steps = -1

    async def run(self) -> None:
        """Look until cancelled.

        Raises:
            StandsStill: there is work and a healthy sink and nothing moved for too long, or Kafka does not answer.
        """
        while True:
            await self._measure()
            self._watchdog.look(self._status)
            await asyncio.sleep(SAMPLE_S)

    async def _measure(self) -> None:
        before, status = self._status.live_lag, self._status
        try:
            lag = await self._lag(self._consumer.assignment()) if status.joined else None
        except (KafkaError, TimeoutError) as error:
            log.warning("lag_unknown", error=type(error).__name__)
            lag = None
        status.live_lag, status.replay_lag, status.waiting = lag or (None, None, None)
        if lag is not None:
            self._metrics.lag.set(lag.live)
            self._metrics.replay_lag.set(lag.replay)
            self._fetcher.hold_replays(hold=before is not None and max(before, _NO_DELAY) < lag.live)

    async def _lag(self, places: Collection[TopicPartition]) -> _Lag:
        async with asyncio.timeout(REQUEST_S):
            committed = self._progress.committed
            await self._progress.learn(self._consumer, places)
            ends = await self._consumer.end_offsets(places) if places else {}
            if self._stands_still():
                await self._parts.expired.standing_still(ends)
        behind = {place: max(0, end - committed.get(place, end)) for place, end in ends.items()}
        live = sum(lag for place, lag in behind.items() if place.topic == topics.DIAL_RESULTS)
        waiting = sum(max(0, end - (self._progress.settled(place) or 0)) for place, end in ends.items())
        return _Lag(live, sum(behind.values()) - live, waiting)

    def _stands_still(self) -> bool:
        """Tell whether nothing moved since the last look, and nothing that was fetched is left to do."""
        steps, self._steps = self._steps, self._status.steps
        return steps == self._steps and self._parts.buffer.is_empty and self._parts.tenure.is_idle


class Watchdog:
    """Says when enough is enough. `clock` counts seconds, from any start."""

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._steps = -1
        self._moved_at = self._known_at = clock()

    def look(self, status: Status) -> None:
        """Compare with the last look.

        Raises:
            StandsStill: there is lag, the sink is healthy and nothing moved for the limit; or the lag is not known for
                five minutes, since Kafka does not answer or the group does not take us in.
        """
        now = self._clock()
        if status.waiting is not None:
            self._known_at = now
        if status.steps != self._steps or not (status.waiting and status.sink_available):
            self._steps, self._moved_at = status.steps, now
        if now - self._moved_at > self._limit_s:
            raise StandsStill(f"there is lag, the sink is healthy, and nothing moved for {self._limit_s:.0f} s")
        if now - self._known_at > UNKNOWN_S:
            raise StandsStill(f"Kafka has not said for {UNKNOWN_S:.0f} s how far behind this consumer is")
