"""The proof that everything works: Blu's own documented callback goes in, and is found, once, in every sink."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from ops.blu.places import PlaceAway, Sinks
from ops.standalone.numbers import consumer_numbers, receiver_numbers
from schemas.blu import decode_callback
from schemas.event import dial_result
from schemas.topics import CONSUMERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ops.standalone.pipeline import Pipeline

DOCUMENTED_BODY = Path(__file__).with_name("documented-body.txt")
ARRIVAL_S = 30.0
_HEADERS = {"Content-type": "application/json;charset=utf-8"}  # as Blu documents it


class NotProven(Exception):  # noqa: N818  # the outcome
    """The callback did not arrive as it should; the message says where."""


@dataclass(frozen=True)
class Proof:
    """What arrived where, milliseconds after the callback was posted."""

    event_id: str
    acknowledged_ms: float
    arrived_ms: dict[str, float] = field(default_factory=dict)
    repeat: bool = False


async def prove(pipeline: Pipeline) -> Proof:
    """Post the documented callback and find it in all sinks.

    On a folder that has it already, this callback is a repeat: each consumer has to take it, and still hold it once.

    Raises:
        NotProven: it was not acknowledged, did not arrive in time, or arrived more than once.
    """
    places = {name: _place(pipeline, name) for name in CONSUMERS}
    before = await asyncio.gather(*(count() for count in places.values()))
    done_before = await _done(pipeline)
    began = time.monotonic()
    await _post(pipeline)
    acknowledged_ms = (time.monotonic() - began) * 1000
    proof = Proof(_event_id(), acknowledged_ms, repeat=any(before))
    waits = (_until_there(pipeline, name, count, done_before[name]) for name, count in places.items())
    for name, arrived in zip(places, await asyncio.gather(*waits), strict=True):
        proof.arrived_ms[name] = (arrived - began) * 1000
    return proof


def _event_id() -> str:
    body = decode_callback(DOCUMENTED_BODY.read_bytes())
    return dial_result("demo", body.task_id, body.records[0], 0).event_id


def _place(pipeline: Pipeline, name: str) -> Callable[[], Awaitable[int]]:
    """Return how to count the documented result in this consumer's sink."""
    sinks = Sinks(pipeline.postgres.dsn, pipeline.analytics_uri, pipeline.url("sandbox-crm"))
    task, event = decode_callback(DOCUMENTED_BODY.read_bytes()).task_id, _event_id()

    async def count() -> int:
        if name == "storage":
            return sum(row.event_id == event for row in await sinks.stored("demo", [task]))
        if name == "analytics":
            return (await sinks.analysed("demo", [task]))[event]
        return sum(effect.event_id == event for effect in await sinks.effects())

    return count


async def _post(pipeline: Pipeline) -> None:
    timeout = aiohttp.ClientTimeout(total=10)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(pipeline.callback_url, data=DOCUMENTED_BODY.read_bytes(), headers=_HEADERS) as response,
        ):
            if response.status != HTTPStatus.OK:
                raise NotProven(f"the receiver answered {response.status}, not 200")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise NotProven(f"the receiver did not answer ({type(error).__name__})") from error


async def _done(pipeline: Pipeline) -> dict[str, int]:
    return {name: numbers.done if numbers else 0 for name, numbers in (await consumer_numbers(pipeline)).items()}


async def _until_there(pipeline: Pipeline, name: str, count: Callable[[], Awaitable[int]], done_before: int) -> float:
    """Return when the sink had it and its consumer had committed it."""
    found = 0
    try:
        async with asyncio.timeout(ARRIVAL_S):
            while not (found and (await _done(pipeline))[name] > done_before):
                await asyncio.sleep(0.05)
                found = await count()
    except (TimeoutError, PlaceAway) as error:
        raise NotProven(f"{name}: {error or f'not there after {ARRIVAL_S:g} s'}; {await _backlog(pipeline)}") from error
    if found != 1:
        raise NotProven(f"{name} has it {found} times")
    return time.monotonic()


async def _backlog(pipeline: Pipeline) -> str:
    numbers = await receiver_numbers(pipeline)
    return f"the receiver holds {numbers.waiting} callbacks" if numbers else "the receiver does not answer"
