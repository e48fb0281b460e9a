"""The sink itself: one batch at a time in a thread, and never half of one."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from deltalake.exceptions import DeltaError, DeltaProtocolError, SchemaMismatchError

from consumers.sink import SinkUnavailable

from .erasing import erase
from .lake import Lake, all_event_ids
from .tidying import Tidying
from .writing import Writing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence

    from consumers.sink import Delivery
    from schemas.merchants import Merchant

    from .settings import Settings

_Result = TypeVar("_Result")

_ERASE_TIMES = 5  # it looks through the whole table
_AWAY = (DeltaError, OSError)  # TimeoutError is an OSError; delta-rs tells a full disk as a plain DeltaError
_WRONG = (SchemaMismatchError, DeltaProtocolError)  # a table of another form: a mistake that waiting does not mend


class AnalyticsSink:
    """Writes results into a Delta table (`consumers.sink.Sink`)."""

    def __init__(self, writing: Writing, tidying: Tidying, settings: Settings) -> None:
        self._writing = writing
        self._tidying = tidying
        self._settings = settings
        self._timeout_s = settings.write_timeout_s
        self._lock = asyncio.Lock()
        self._running: set[asyncio.Task[None]] = set()
        self._tidy: asyncio.Task[None] | None = None

    async def write(self, deliveries: Sequence[Delivery]) -> None:
        """Make every event a row, once. Cancelled, it still ends what it began before the next one begins.

        Raises:
            SinkUnavailable: the storage is away, or others write the same.
        """
        if not deliveries:
            return
        await self._wait_for(self._start(self._write(deliveries)), self._timeout_s)

    async def _wait_for(self, task: asyncio.Task[None], limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.shield(task)
        except _WRONG:
            raise
        except _AWAY as error:
            raise SinkUnavailable(type(error).__name__) from error

    async def erase(self, merchant: str, record_id: str) -> str:
        """Delete the contact's rows and every file that held one; nothing else of ours touches the table meanwhile.

        Rows of other contacts that share its pseudonym stay: masked numbers are shared by many people.

        Raises:
            SinkUnavailable: the storage is away, or it takes longer than anybody should wait at once.
        """
        await self._wait_for(self._start(self._erase(merchant, record_id)), self._timeout_s * _ERASE_TIMES)
        return ""

    async def close(self) -> None:
        """Wait for what still runs (a cancelled write, the tidying), within the time of one write."""
        if self._running:
            await asyncio.wait(self._running, timeout=self._timeout_s)

    async def _write(self, deliveries: Sequence[Delivery]) -> None:
        async with self._lock:
            version = await asyncio.to_thread(self._writing.write, deliveries)
        if self._tidying.is_due(version) and (self._tidy is None or self._tidy.done()):
            self._tidy = self._start(asyncio.to_thread(self._tidying.tidy, version))

    async def _erase(self, merchant: str, record_id: str) -> None:
        async with self._lock:
            if self._tidy:
                await asyncio.wait((self._tidy,))
            await asyncio.to_thread(erase, self._settings, merchant, record_id)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        with suppress(asyncio.CancelledError):
            task.exception()  # seen: whoever was cancelled does not ask for it any more


@asynccontextmanager
async def connect(settings: Settings, merchants: Mapping[str, Merchant]) -> AsyncIterator[AnalyticsSink]:
    """Open the table; make it where there is none.

    Raises:
        SinkUnavailable: the storage is away.
    """
    lake = await _blocking(settings, Lake)
    writing, tidying = Writing(lake, settings, merchants), Tidying(settings, lake.version)
    sink = AnalyticsSink(writing, tidying, settings)
    try:
        yield sink
    finally:
        await sink.close()


async def event_ids(settings: Settings) -> list[str]:
    """Return the event id of every row.

    Raises:
        SinkUnavailable: the storage is away.
    """
    return await _blocking(settings, all_event_ids)


async def _blocking(settings: Settings, function: Callable[[Settings], _Result]) -> _Result:
    try:
        async with asyncio.timeout(settings.write_timeout_s):
            return await asyncio.to_thread(function, settings)
    except _WRONG:
        raise
    except _AWAY as error:
        raise SinkUnavailable(type(error).__name__) from error
