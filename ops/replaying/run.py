"""A job at work: copies, and every second writes down how far it is; stops where its row says so."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from . import jobs
from .sending import Copier, Copy, Pace, copying

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    import asyncpg

    from .jobs import Job
    from .sources import Lot, Source

CHECKPOINT_S = 1.0


class Runner:
    """Works on one job; `told` is called as it advances. The job has to be held."""

    def __init__(self, connection: asyncpg.Connection, job: Job, told: Callable[[Job], None]) -> None:
        self._connection = connection
        self._job = job
        self._told = told
        self._stop = asyncio.Event()

    def pause(self) -> None:
        """Stop at the next lot; for a signal handler."""
        self._stop.set()

    async def run(
        self, source: Source, kafka: Mapping[str, Any], partition: Callable[[Copy], int] | None = None
    ) -> str:
        """Copy until all is in the target, or it is to stop; return the state that the job is in then.

        Raises:
            KafkaError, OSError, TimeoutError, asyncpg.PostgresError: it stands at its last checkpoint, to be resumed.
        """
        job, pace = self._job, Pace(self._job.rate)
        async with (
            copying(kafka) as producer,
            aclosing(source.lots(job.progress, pace.portion)) as lots,
            aclosing(self._until_stopped(lots)) as ticks,
        ):
            copier, written_s = Copier(producer, job.target, partition), time.monotonic()
            async for lot in ticks:
                if lot:
                    await copier.send(map(source.copy, lot.chosen))
                    job.looked_at += lot.looked_at
                    job.sent += len(lot.chosen)
                    job.progress = lot.progress
                    await pace.wait(len(lot.chosen))
                if time.monotonic() - written_s >= CHECKPOINT_S:
                    if state := await self._checkpoint(copier):
                        return state
                    written_s = time.monotonic()
            return await self._checkpoint(copier) or await self._end(jobs.DONE)

    async def _until_stopped(self, lots: AsyncGenerator[Lot]) -> AsyncGenerator[Lot | None]:
        """Yield the lots, and None where none came within a second: Kafka may be away, and still somebody may pause."""
        stopping = asyncio.ensure_future(self._stop.wait())
        following = asyncio.ensure_future(anext(lots, None))
        try:
            while True:
                await asyncio.wait((following, stopping), timeout=CHECKPOINT_S, return_when=asyncio.FIRST_COMPLETED)
                if stopping.done():
                    return
                if not following.done():
                    yield None
                    continue
                if (lot := following.result()) is None:
                    return
                yield lot
                following = asyncio.ensure_future(anext(lots, None))
        finally:
            for task in (stopping, following):
                task.cancel()
            await asyncio.wait((stopping, following))
            _ = following.cancelled() or following.exception()  # it is taken, whatever ended us

    async def _checkpoint(self, copier: Copier) -> str | None:
        """Write down what the target has durably; return the new state if the job is to stop."""
        await copier.settled()
        wanted = await jobs.checkpoint(self._connection, self._job)
        self._told(self._job)
        if self._stop.is_set():
            wanted = jobs.PAUSE
        return await self._end(jobs.BECOMES[wanted]) if wanted in jobs.BECOMES else None

    async def _end(self, state: str) -> str:
        await jobs.settle(self._connection, self._job.id, state)
        return state
