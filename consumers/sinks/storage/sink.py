"""The sink itself: optimistic first, careful where that is refused, and a bad row alone where it must be."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from consumers.sink import EventsRejected, SinkUnavailable

from .database import TABLE, Database
from .errors import DISCONNECTED, blames_moment, blames_row
from .rows import Row, row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from consumers.sink import Delivery
    from schemas.merchants import Merchant

    from .settings import Settings


class StorageSink:
    """Writes results into PostgreSQL (`consumers.sink.Sink`)."""

    def __init__(self, database: Database, merchants: Mapping[str, Merchant]) -> None:
        self._database = database
        self._merchants = merchants

    async def write(self, deliveries: Sequence[Delivery]) -> None:
        """Make every event a row, once. One transaction where no row is refused.

        Raises:
            SinkUnavailable: the database is away, full, shutting down or read only.
            EventsRejected: PostgreSQL refuses these rows themselves; reasons are `sqlstate-...`.
        """
        # Of a repeat the first counts, within a batch as between two: when a result was first received decides order.
        events = {delivery.event.event_id: delivery.event for delivery in reversed(deliveries)}
        # In the order of their key: two writers of the same rows wait for each other, and never in a circle.
        rows = [row(events[event_id], self._merchants) for event_id in sorted(events)]
        try:
            rejected = await self._settle(rows) if rows else {}
        except BaseException as error:
            self._database.drop()  # cancelled in the middle, timed out, lost: what it is in the middle of is not known
            reason = blames_moment(error)
            if reason is None:
                raise
            raise SinkUnavailable(reason) from error
        if rejected:
            raise EventsRejected(rejected)

    async def _settle(self, rows: Sequence[Row]) -> dict[str, str]:
        """Insert the rows; halve what is refused until the refused rows stand alone. Returns their reasons."""
        try:
            await self._insert(rows)
        except (asyncpg.PostgresError, *DISCONNECTED) as error:
            reason = blames_row(error)
            if reason is None:
                raise
            if len(rows) == 1:
                return {rows[0][0]: reason}
        else:
            return {}
        middle = len(rows) // 2
        return await self._settle(rows[:middle]) | await self._settle(rows[middle:])

    async def _insert(self, rows: Sequence[Row]) -> None:
        try:
            await self._database.copy(rows)
        except asyncpg.UniqueViolationError:
            await self._database.merge(rows)


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
