"""The sink itself: optimistic first, careful where that is refused, and a bad row alone where it must be."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import asyncpg

from consumers.sink import EventsRejected, SinkUnavailable

from .database import TABLE, Database
from .errors import DISCONNECTED, blames_moment, blames_row
from .rows import Rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from consumers.sink import Delivery
    from schemas.event import DialResult
    from schemas.merchants import Merchant

    from .settings import Settings


class StorageSink:
    """Writes results into PostgreSQL (`consumers.sink.Sink`)."""

    def __init__(self, database: Database, merchants: Mapping[str, Merchant]) -> None:
        self._database = database
        self._rows = Rows(merchants)
        self._repeats = False

    async def write(self, deliveries: Sequence[Delivery]) -> None:
        """Make every event a row, once. One transaction where no row is refused.

        Raises:
            SinkUnavailable: the database is away, full, shutting down or read only.
            EventsRejected: PostgreSQL refuses these rows themselves; reasons are `sqlstate-...`.
        """
        # Of a repeat the first counts, within a batch as between two: when a result was first received decides order.
        events = {delivery.event.event_id: delivery.event for delivery in reversed(deliveries)}
        with self._in_one_piece():
            rejected = await self._settle(await self._unknown(events))
        if rejected:
            raise EventsRejected(rejected)

    async def erase(self, merchant: str, record_id: str) -> str:
        """Delete the contact's rows. Raises SinkUnavailable."""
        if "\0" not in record_id:  # such a row was never taken
            with self._in_one_piece():
                await self._database.erase(merchant, record_id)
        return ""

    @contextmanager
    def _in_one_piece(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._database.drop()  # cancelled in the middle, timed out, lost: what it is in the middle of is not known
            reason = blames_moment(error)
            if reason is None:
                raise
            raise SinkUnavailable(reason) from error

    async def _unknown(self, events: Mapping[str, DialResult]) -> list[DialResult]:
        """Leave out what is in the table, where the batch before brought repeats too: asking first saves a refusal.

        In the order of their key: two writers of the same rows wait for each other, and never in a circle.
        """
        event_ids = await self._database.missing(list(events)) if self._repeats else events
        self._repeats = self._repeats and len(event_ids) < len(events)
        return [events[event_id] for event_id in sorted(event_ids)]

    async def _settle(self, events: Sequence[DialResult]) -> dict[str, str]:
        """Insert; halve what is refused until the refused rows stand alone. Returns their reasons."""
        if not events:
            return {}
        try:
            await self._insert(events)
        except (asyncpg.PostgresError, *DISCONNECTED) as error:
            reason = blames_row(error)
            if reason is None:
                raise
            if len(events) == 1:
                return {events[0].event_id: reason}
        else:
            return {}
        middle = len(events) // 2
        return await self._settle(events[:middle]) | await self._settle(events[middle:])

    async def _insert(self, events: Sequence[DialResult]) -> None:
        """Make the rows while they are sent: the server works on the first of them meanwhile."""
        try:
            await self._database.copy(map(self._rows.row, events))
        except asyncpg.UniqueViolationError:
            self._repeats = True
            await self._database.merge(map(self._rows.row, events))


@asynccontextmanager
async def connect(settings: Settings, merchants: Mapping[str, Merchant]) -> AsyncIterator[StorageSink]:
    """Connect to the database.

    Raises:
        SinkUnavailable: it is away, or `dial-results storage migrate` has not run.
    """
    database = Database(settings)
    await database.connected()
    try:
        yield StorageSink(database, merchants)
    finally:
        await database.close()


async def event_ids(settings: Settings) -> list[str]:
    """Return the event id of every row.

    Raises:
        SinkUnavailable: the database is away.
    """
    database = Database(settings)
    try:
        connection = await database.connected()
        return [str(found["event_id"]) for found in await connection.fetch(f"SELECT event_id FROM {TABLE}")]  # noqa: S608
    finally:
        await database.close()
