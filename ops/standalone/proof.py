"""The proof that everything works: Blu's own documented callback goes in, and is found, once, in every sink."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import aiohttp
from aiokafka.errors import KafkaError

from ops.blu.places import PlaceAway, Sinks
from ops.standalone.numbers import consumer_numbers, receiver_numbers
from ops.standalone.pipeline import MERCHANT
from ops.standalone.trail import Place, Trail
from schemas.blu import decode_callback
from schemas.event import dial_result
from schemas.topics import CONSUMERS, PARTITIONS, partition_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from ops.standalone.pipeline import Pipeline
    from schemas.event import DialResult

DOCUMENTED_BODY = Path(__file__).with_name("documented-body.txt")
ARRIVAL_S = 60.0  # after a long outage the callback queues behind a backlog
_ANSWER_S = 10.0
_HEADERS = {"Content-type": "application/json;charset=utf-8"}  # as Blu documents it
_T = TypeVar("_T")
_PROMISED = (200, b'{"code":200,"message":"success"}')


class NotProven(Exception):  # noqa: N818  # the outcome
    """The callback did not arrive as it should; the message says where."""


@dataclass(frozen=True)
class Proof:
    """What arrived where, in milliseconds after the post began.

    `repeats` names the sinks that had this result before: to them it is one of Blu's repeats, and has to collapse.
    """

    event_id: str
    place: Place
    acknowledged_ms: float
    published_ms: float
    committed_ms: dict[str, float]
    repeats: frozenset[str]


async def prove(pipeline: Pipeline) -> Proof:
    """Post the documented callback, follow it to each consumer's commit, and count it in each sink.

    Raises:
        NotProven: it was not acknowledged, did not arrive in time, or is not there exactly once.
    """
    result = _documented()
    count = _counting(pipeline, result)
    try:
        before = {name: await count(name) for name in CONSUMERS}
        async with Trail(pipeline.kafka.bootstrap_servers, partition_of(result.key, PARTITIONS)) as trail:
            proof = await _follow(pipeline, trail, result, frozenset(name for name in CONSUMERS if before[name]))
        after = {name: await count(name) for name in CONSUMERS}
    except (PlaceAway, KafkaError) as error:
        raise NotProven(str(error) or type(error).__name__) from error
    for name, times in after.items():
        if times != 1:
            raise NotProven(f"{name} has committed it, but holds it {times} times")
    return proof


def _documented() -> DialResult:
    body = decode_callback(DOCUMENTED_BODY.read_bytes())
    return dial_result(MERCHANT, body.task_id, body.records[0], received_ms=0)


async def _follow(pipeline: Pipeline, trail: Trail, result: DialResult, repeats: frozenset[str]) -> Proof:
    began = time.monotonic()
    _, acknowledged_ms = await _timed(_post(pipeline), began)
    place, published_ms = await _in_time(_timed(trail.found(result.event_id), began), "Kafka", pipeline)
    passing = (_in_time(_timed(trail.passed(name, place), began), name, pipeline) for name in CONSUMERS)
    committed_ms = {name: ms for name, (_, ms) in zip(CONSUMERS, await asyncio.gather(*passing), strict=True)}
    return Proof(result.event_id, place, acknowledged_ms, published_ms, committed_ms, repeats)


async def _timed(work: Coroutine[None, None, _T], began: float) -> tuple[_T, float]:
    return await work, (time.monotonic() - began) * 1000


async def _in_time(work: Coroutine[None, None, _T], where: str, pipeline: Pipeline) -> _T:
    try:
        async with asyncio.timeout(ARRIVAL_S):
            return await work
    except TimeoutError:
        raise NotProven(f"{where}: not there after {ARRIVAL_S:g} s; {await _state(pipeline)}") from None


async def _post(pipeline: Pipeline) -> None:
    timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(pipeline.callback_url, data=DOCUMENTED_BODY.read_bytes(), headers=_HEADERS) as response,
        ):
            answered = response.status, await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise NotProven(f"the receiver did not answer ({type(error).__name__})") from error
    if answered != _PROMISED:
        raise NotProven(f"the receiver answered {answered[0]} {answered[1][:100]!r}, not what Blu takes for a success")


def _counting(pipeline: Pipeline, result: DialResult) -> Callable[[str], Awaitable[int]]:
    """Return how to count the result in a consumer's sink."""
    sinks = Sinks(pipeline.postgres.dsn, pipeline.analytics_uri, pipeline.url("sandbox-crm"))

    async def count(name: str) -> int:
        if name == "storage":
            return sum(row.event_id == result.event_id for row in await sinks.stored(MERCHANT, [result.task_id]))
        if name == "analytics":
            return (await sinks.analysed(MERCHANT, [result.task_id]))[result.event_id]
        return sum(effect.event_id == result.event_id for effect in await sinks.effects())

    return count


async def _state(pipeline: Pipeline) -> str:
    """Say what the parts say of themselves, to tell where it got stuck."""
    receiver, consumers = await receiver_numbers(pipeline), await consumer_numbers(pipeline)
    said = [f"the receiver holds {receiver.waiting} callbacks" if receiver else "the receiver does not answer"]
    for name, numbers in consumers.items():
        said.append(f"{name} is {numbers.lag} behind" if numbers else f"{name} does not answer")
    return ", ".join(said)
