"""What the running parts say of themselves on their admin ports, for the live status and the proof."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from schemas import metrics
from schemas.topics import CONSUMERS

if TYPE_CHECKING:
    from ops.standalone.pipeline import Pipeline

_ANSWER = aiohttp.ClientTimeout(total=2)


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
    values = await _values(f"{pipeline.url('receiver-admin')}/metrics")
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
    answers = await asyncio.gather(*(_consumer(f"{pipeline.url(f'{name}-admin')}/metrics") for name in CONSUMERS))
    return dict(zip(CONSUMERS, answers, strict=True))


async def _consumer(url: str) -> ConsumerNumbers | None:
    values = await _values(url)
    if values is None:
        return None
    return ConsumerNumbers(
        done=values.get(metrics.EVENTS_DONE, 0),
        lag=values.get(metrics.LAG, 0),
        dead_letters=values.get(metrics.DEAD_LETTERS, 0),
        sink_available=bool(values.get(metrics.SINK_AVAILABLE, 0)),
    )


async def _values(url: str) -> dict[str, int] | None:
    """Return each metric's sum over its labels."""
    try:
        async with aiohttp.ClientSession(timeout=_ANSWER) as session, session.get(url) as response:
            text = await response.text()
    except (aiohttp.ClientError, TimeoutError):
        return None
    return {
        family.name: int(sum(sample.value for sample in family.samples if not sample.name.endswith("_created")))
        for family in text_string_to_metric_families(text)
    }
