"""What a destination has already: of these results a replay will change nothing."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Protocol

from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, TableNotFoundError

if TYPE_CHECKING:
    from collections.abc import Collection

    import asyncpg

_STORED = "SELECT event_id::text FROM dial_result WHERE event_id = ANY($1::text[]::uuid[])"
_SETTLED = """
SELECT event_id::text FROM ops.crm_ledger
WHERE destination = $2 AND event_id = ANY($1::text[]::uuid[]) AND state IN ('done', 'superseded')
"""


class Known(Protocol):
    """A destination that can say which events it has."""

    async def of(self, event_ids: Collection[str]) -> set[str]:
        """Return those of these that it has. Raises what its database raises."""


class InStorage:
    """Rows of `dial_result`."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def of(self, event_ids: Collection[str]) -> set[str]:
        """Return those that have a row."""
        return {row[0] for row in await self._connection.fetch(_STORED, list(event_ids))}


class InCrm:
    """Results that are done or superseded in one CRM's ledger."""

    def __init__(self, connection: asyncpg.Connection, destination: str) -> None:
        self._connection = connection
        self._destination = destination

    async def of(self, event_ids: Collection[str]) -> set[str]:
        """Return those that the CRM sink will pass over."""
        return {row[0] for row in await self._connection.fetch(_SETTLED, list(event_ids), self._destination)}


class InAnalytics:
    """Rows of the Delta table, read once, and whole: it has no index."""

    def __init__(self, uri: str, options: dict[str, str]) -> None:
        self._uri = uri
        self._options = options
        self._ids: set[str] | None = None

    async def of(self, event_ids: Collection[str]) -> set[str]:
        """Return those that have a row. Raises OSError, DeltaError."""
        if self._ids is None:
            self._ids = await asyncio.to_thread(self._read)
        return self._ids.intersection(event_ids)

    def _read(self) -> set[str]:
        try:
            table = DeltaTable(self._uri, storage_options=self._options)
        except TableNotFoundError:
            return set()
        pieces = QueryBuilder().register("t", table).execute("SELECT event_id FROM t")
        return {one for piece in pieces for one in piece.column(0).to_pylist()}


AWAY = (OSError, DeltaError)


def known_by(consumer: str | None, connection: asyncpg.Connection, analytics_uri: str | None) -> Known | None:
    """Return how to ask what this consumer's sink has, None where nobody here knows."""
    if consumer == "storage":
        return InStorage(connection)
    if consumer == "crm":
        return InCrm(connection, os.environ.get("CRM_DESTINATION") or os.environ.get("CRM_VENDOR") or "hubspot")
    if consumer == "analytics" and analytics_uri:
        return InAnalytics(analytics_uri, json.loads(os.environ.get("ANALYTICS_STORAGE_OPTIONS", "{}")))
    return None
