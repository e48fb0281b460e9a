"""How a command that asks Kafka and PostgreSQL ends when it cannot go on: with 75, and a line that says why."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from aiokafka.errors import KafkaError

from ops.places import DatabaseAway, later
from schemas.quiet import quieten

if TYPE_CHECKING:
    from collections.abc import Coroutine

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
    except (KafkaError, OSError, TimeoutError) as error:
        raise NotNow(f"Kafka does not answer: {type(error).__name__}") from None
