"""Whether the partitions in hand are still ours to work on."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import structlog
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from consumers.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from schemas.backoff import Backoff

log = structlog.get_logger()

_PATIENCE_S = 25.0  # for one request: longer than the client's own, for dead letters 20 s


class Tenure:
    """Ends with a revocation or a stop. Who works on a batch remembers `number`: another one means it is void."""

    def __init__(self) -> None:
        self.number = 0
        self._ending = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._works = 0

    def begin(self) -> None:
        """Start anew, with partitions just assigned."""
        self.number += 1
        self._ending.clear()

    async def end(self, limit_s: float) -> bool:
        """End all waiting between attempts at once; wait for work in progress. Tells whether that finished in time."""
        self._ending.set()
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        finally:
            self.number += 1
        return True

    async def pause(self, seconds: float) -> None:
        """Wait between two attempts.

        Raises:
            Interrupted: the tenure ends.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            return
        raise Interrupted

    async def insist(self, problem: str, action: Callable[[], Awaitable[None]], backoff: Backoff) -> None:
        """Repeat what Kafka does not take now.

        Raises:
            CommitFailedError, IllegalStateError: the group has moved on.
            Interrupted: the tenure ended before it was done.
        """
        for failures in itertools.count(1):
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    return await action()
            except (CommitFailedError, IllegalStateError):
                raise
            except (KafkaError, TimeoutError) as error:
                log.warning(problem, error=type(error).__name__, failures=failures)
                await self.pause(backoff.wait_s(failures))
        return None

    @property
    def is_idle(self) -> bool:
        """Whether nobody works on a batch."""
        return self._idle.is_set()

    def check(self, number: int) -> None:
        """Raise Interrupted if that tenure is over."""
        if number != self.number:
            raise Interrupted

    def hold(self) -> None:
        """Begin a piece of work: `end` waits until it lets go."""
        self._works += 1
        self._idle.clear()

    def let_go(self) -> None:
        """End a piece of work."""
        self._works -= 1
        if not self._works:
            self._idle.set()

    def __enter__(self) -> None:
        """Hold it, for the length of a block."""
        self.hold()

    def __exit__(self, *_: object) -> None:
        self.let_go()
