"""What replay and redrive say, and end with, where something cannot be done now."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import click
import uvloop
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from ops.places import DatabaseAway, later
from schemas.merchants import MerchantsFileError
from schemas.quiet import quieten

from .jobs import JobHeld, NoSuchJob
from .known import AWAY
from .target import UnfitTarget

if TYPE_CHECKING:
    from collections.abc import Coroutine

_Result = TypeVar("_Result")
_AWAY = (KafkaError, OSError, TimeoutError, *AWAY, asyncpg.PostgresError, asyncpg.InterfaceError)


def run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run it to its end, with the garbage collector looking seldom: records come by the thousand, without cycles."""
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def guarded(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run it to its end. Raises click.UsageError; ends the process with 75 where it may work later."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it is said at the end
    quieten()
    try:
        return run(work)
    except (UnfitTarget, MerchantsFileError) as error:
        raise click.UsageError(str(error)) from None
    except NoSuchJob as error:
        raise click.UsageError(f"there is no job {error}") from None
    except JobHeld as error:
        later("not now", f"another process works on {error}")
    except OffsetOutOfRangeError:
        later("stopped", "retention has taken what came next: go on again, and it takes what is left")
    except DatabaseAway as error:
        later("not now", str(error))
    except _AWAY as error:
        later("not done", f"{type(error).__name__}; what had begun goes on where it stands when you ask again")
