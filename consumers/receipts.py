"""Receipts in PostgreSQL, table `ops.erasure_receipt`. A connection each time: erasures are rare."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from consumers.erasing import ReceiptsAway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from schemas.erasure import Erasure

_LIMIT_S = 10.0
_AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
_LEAVE = """
INSERT INTO ops.erasure_receipt (erasure_id, consumer, merchant, record_id, who, requested_at, remains)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING
"""


class PostgresReceipts:
    """One consumer's (`consumers.erasing.Receipts`)."""

    def __init__(self, dsn: str, consumer: str) -> None:
        self._dsn = dsn
        self._consumer = consumer

    async def left(self) -> set[str]:
        """Return the ids of erasures for which this consumer has left one. Raises ReceiptsAway."""
        async with self._connected() as connection:
            rows = await connection.fetch(
                "SELECT erasure_id FROM ops.erasure_receipt WHERE consumer = $1", self._consumer
            )
        return {str(row["erasure_id"]) for row in rows}

    async def leave(self, erasure: Erasure, remains: str) -> None:
        """Leave one, once. Raises ReceiptsAway."""
        merchant, record_id = erasure.contact
        values = (self._consumer, merchant, record_id, erasure.who, erasure.requested_at, remains)
        async with self._connected() as connection:
            await connection.execute(_LEAVE, erasure.erasure_id, *values)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection]:
        try:
            connection = await asyncpg.connect(self._dsn, timeout=_LIMIT_S, command_timeout=_LIMIT_S)
            try:
                yield connection
            finally:
                connection.terminate()
        except _AWAY as error:
            state = error.sqlstate if isinstance(error, asyncpg.PostgresError) else ""
            raise ReceiptsAway(f"{type(error).__name__} {state}".strip()) from error
