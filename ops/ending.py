"""How a command that asks Kafka and PostgreSQL ends when it cannot go on: with 75, and a line that says why."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from aiokafka.errors import KafkaError

from ops.places import DatabaseAway, later
from schemas import clients
from schemas.quiet import quieten

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

_CONNECT_S = 15.0
_STOP_S = 1.0

_R = TypeVar("_R")


class NotNow(Exception):  # noqa: N818  # a state of affairs
    """It cannot be done at this moment; the message says why."""


def run_or_later(command: str, work: Coroutine[Any, Any, _R]) -> _R:
    """Run a command's work to its end. Whatever is away, and Ctrl-C, end the process with 75."""
    try:
        return run_now(work)
    except NotNow as away:
        later(command, f"{away}")
    except KeyboardInterrupt:
        later(command, "interrupted; run it again to go on")


def run_now(work: Coroutine[Any, Any, _R]) -> _R:
    """Run it to its end. Raises NotNow where something is away."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it is said at the end
    quieten()
    try:
        return asyncio.run(work)
    except DatabaseAway as away:
        raise NotNow(f"{away}") from None
    except asyncpg.PostgresError as error:
        raise NotNow(f"PostgreSQL refused: {type(error).__name__}") from None
    except KafkaError as error:
        raise _kafka_away(error) from None


@asynccontextmanager
async def connected(client: Any) -> AsyncIterator[None]:  # noqa: ANN401  # aiokafka ships no types
    """Start a client of Kafka, and stop it at the end. Raises NotNow: it could not start."""
    try:
        try:
            await clients.start(client, _CONNECT_S)
        except (KafkaError, OSError) as error:  # a TimeoutError is an OSError; PostgreSQL must not be blamed for it
            raise _kafka_away(error) from None
        yield
    finally:
        await clients.stop(client, _STOP_S)


def _kafka_away(error: Exception) -> NotNow:
    return NotNow(f"Kafka does not answer: {type(error).__name__}")
