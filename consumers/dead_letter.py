"""The dead-letter topic: what the sink refused for good, byte for byte, with where it came from and why."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from schemas import topics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import AIOKafkaProducer

    from consumers.rejects import Outcome

SEND_S = 20.0
"""Time for one lot of dead letters; twice the client's own patience with a broker."""

_OURS = (topics.REASON, topics.CONSUMER, topics.ATTEMPTS, topics.VERSION)
_PLACE = (topics.ORIGINAL_TOPIC, topics.ORIGINAL_PARTITION, topics.ORIGINAL_OFFSET)


class DeadLetters:
    """Writes to `dial-results.<consumer>.dead-letter`."""

    def __init__(self, producer: AIOKafkaProducer, consumer: str, version: str) -> None:
        self._producer = producer
        self._consumer = consumer
        self._topic = topics.dead_letter(consumer)
        self._version = version

    async def send(self, rejected: Sequence[Outcome]) -> None:
        """Return when all of them are acknowledged by the brokers. Sending them again is harmless.

        Raises:
            KafkaError, TimeoutError: not all are; some may be.
        """
        sent: list[asyncio.Future[object]] = []
        try:
            async with asyncio.timeout(SEND_S):
                for outcome in rejected:
                    sent.append(await self._send(outcome))  # noqa: PERF401  # what was sent is known when it is cut short
                await asyncio.gather(*sent)
        finally:
            for one in sent:
                one.add_done_callback(_seen)

    async def _send(self, outcome: Outcome) -> asyncio.Future[object]:
        record = outcome.received.record
        sent: asyncio.Future[object] = await self._producer.send(
            self._topic,
            # aiokafka refuses to send a record without both, which other clients do send.
            key=b"" if record.key is None and record.value is None else record.key,
            value=record.value,
            timestamp_ms=record.timestamp,  # its own time, and with it its expiry
            headers=self.headers(outcome),
        )
        return sent

    def headers(self, outcome: Outcome) -> list[tuple[str, bytes]]:
        """Return the record's own headers and ours. A replayed record keeps the place of its original."""
        record = outcome.received.record
        kept = [(name, value) for name, value in record.headers if name not in _OURS]
        names = {name for name, _ in kept}
        if not names.issuperset(_PLACE):
            place = (record.topic, record.partition, record.offset)
            kept = [(name, value) for name, value in kept if name not in _PLACE]
            kept += [(name, str(value).encode()) for name, value in zip(_PLACE, place, strict=True)]
        ours = (outcome.reason, self._consumer, outcome.attempts, self._version)
        return kept + [(name, str(value).encode()) for name, value in zip(_OURS, ours, strict=True)]


def _seen(sent: asyncio.Future[object]) -> None:
    """Take note of how it ended, long after everybody gave up on it; asyncio complains of failures nobody saw."""
    if not sent.cancelled():
        sent.exception()
