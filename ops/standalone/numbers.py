"""What the running parts say of themselves on their admin ports, for the live status and the proof."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.scraping import scraped
from schemas import metrics
from schemas.topics import CONSUMERS

if TYPE_CHECKING:
    from ops.standalone.pipeline import Pipeline

_ANSWER_S = 2.0


@dataclass(frozen=True)
class ReceiverNumbers:
    """Callbacks and results since the receiver's start; `waiting` is the journal's backlog now."""

    received: int
    journaled: int
    waiting: int
    published: int
    quarantined: int


@dataclass(frozen=True)
class ConsumerNumbers:
    """Events since the consumer's start; `lag` is how many it is behind now."""

    done: int
    lag: int
    dead_letters: int
    sink_available: bool


async def receiver_numbers(pipeline: Pipeline) -> ReceiverNumbers | None:
    """Ask the receiver; None while it does not answer."""
    values = await scraped(pipeline.url("receiver-admin"), _ANSWER_S)
    if values is None:
        return None
    return ReceiverNumbers(
        received=values.get(metrics.RECEIVED, 0),
        journaled=values.get(metrics.JOURNALED, 0),
        waiting=values.get(metrics.JOURNAL_WAITING, 0),
        published=values.get(metrics.PUBLISHED, 0),
        quarantined=values.get(metrics.QUARANTINED, 0),
    )


async def consumer_numbers(pipeline: Pipeline) -> dict[str, ConsumerNumbers | None]:
    """Ask each consumer; None where one does not answer."""
    answers = await asyncio.gather(*(_consumer(pipeline.url(f"{name}-admin")) for name in CONSUMERS))
    return dict(zip(CONSUMERS, answers, strict=True))


async def _consumer(admin_url: str) -> ConsumerNumbers | None:
    values = await scraped(admin_url, _ANSWER_S)
    if values is None:
        return None
    return ConsumerNumbers(
        done=values.get(metrics.EVENTS_DONE, 0),
        lag=values.get(metrics.LAG, 0),
        dead_letters=values.get(metrics.DEAD_LETTERS, 0),
        sink_available=bool(values.get(metrics.SINK_AVAILABLE, 0)),
    )
