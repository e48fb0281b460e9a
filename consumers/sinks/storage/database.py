"""One connection to PostgreSQL that comes about when it is needed, and is thrown away when in doubt."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg

from consumers.sink import SinkUnavailable

from .errors import blames_moment
from .rows import COLUMNS, Row
from .schema import HEAD, current_revision, is_current

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .settings import Settings

TABLE = "dial_result"
STAGING = "dial_result_staging"
_CLOSE_S = 1.0
_CREATE_STAGING = f"CREATE TEMP TABLE IF NOT EXISTS {STAGING} (LIKE {TABLE}) ON COMMIT DELETE ROWS"
# The inner query is no join on purpose: each id is looked up in the index, whatever the planner believes of the table.
_MISSING = f"SELECT id::text FROM unnest($1::uuid[]) id WHERE (SELECT true FROM {TABLE} WHERE event_id = id) IS NULL"  # noqa: S608
_MERGE = f"INSERT INTO {TABLE} SELECT * FROM {STAGING} ON CONFLICT (event_id) DO NOTHING"  # noqa: S608  # constants

_ERASE = f"DELETE FROM {TABLE} WHERE merchant = $1 AND record_id = $2"  # noqa: S608  # a constant
# Waits for every write in progress, a cancelled one that the server is just committing included, and lets readers be.
_HOLD_WRITERS = f"LOCK TABLE {TABLE} IN SHARE ROW EXCLUSIVE MODE"

_APPLICATION = "dial-results storage"
# A COPY that waits for its client heeds no timeout of the server: a process that froze in the middle of one would keep
# all who write the same rows waiting, for as long as it is frozen. No sound one takes longer than the write timeout.
_END_FROZEN = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name = $1 AND pid <> pg_backend_pid()
      AND state = 'active' AND wait_event = 'ClientRead' AND query_start < now() - make_interval(secs => $2)
"""


class Database:
    """Writes rows in one of two ways; both are one transaction, and durable on return."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: asyncpg.Connection | None = None

    async def connected(self) -> asyncpg.Connection:
        """Return the connection, a new one if the last was thrown away.

        Raises:
            SinkUnavailable: the database is away, or `dial-results storage migrate` has not run.
        """
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        return self._connection

    async def missing(self, event_ids: Sequence[str]) -> list[str]:
        """Return which of these are not in the table yet."""
        connection = await self.connected()
        return [found["id"] for found in await connection.fetch(_MISSING, event_ids)]

    async def copy(self, rows: Iterable[Row]) -> None:
        """COPY straight into the table: the fastest, and refused as a whole if one row is there already.

        Raises:
            asyncpg.UniqueViolationError, and whatever else asyncpg raises.
        """
        connection = await self.connected()
        timeout_s = self._settings.write_timeout_s
        await connection.copy_records_to_table(TABLE, records=rows, columns=COLUMNS, timeout=timeout_s)

    async def merge(self, rows: Iterable[Row]) -> None:
        """COPY into a temporary table, and from there what is not in the table yet."""
        connection = await self.connected()
        async with asyncio.timeout(self._settings.write_timeout_s), connection.transaction():
            await connection.execute(_CREATE_STAGING)
            await connection.copy_records_to_table(STAGING, records=rows, columns=COLUMNS)
            await connection.execute(_MERGE)

    async def erase(self, merchant: str, record_id: str) -> None:
        """Delete one contact's rows, and those that others are writing at this moment."""
        connection = await self.connected()
        async with asyncio.timeout(self._settings.write_timeout_s), connection.transaction():
            await connection.execute(_HOLD_WRITERS)
            await connection.execute(_ERASE, merchant, record_id)

    def drop(self) -> None:
        """Throw the connection away: its state is not known, or it may lead to the wrong server."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        """End the connection in order, within 1 s."""
        if self._connection is not None and not self._connection.is_closed():
            try:
                await self._connection.close(timeout=_CLOSE_S)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                self.drop()

    async def _connect(self) -> asyncpg.Connection:
        timeout_s = self._settings.connect_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                connection = await asyncpg.connect(
                    self._settings.dsn.get_secret_value(),
                    timeout=timeout_s,
                    command_timeout=self._settings.write_timeout_s,
                    server_settings={"application_name": _APPLICATION},
                )
                await self._prepare(connection)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            reason = blames_moment(error)
            if reason is None:
                raise
            raise SinkUnavailable(reason) from error
        return connection

    async def _prepare(self, connection: asyncpg.Connection) -> None:
        revision = await current_revision(connection)
        if not is_current(revision):
            connection.terminate()
            there = f"at revision {revision}" if revision else "not there"
            raise SinkUnavailable(f"its tables are {there}, {HEAD} is needed: run `dial-results storage migrate`")
        # JSON goes as the bytes that came: no decoding and encoding on the way, and PostgreSQL is who checks them.
        # Times as PostgreSQL counts them: asyncpg's way from a datetime costs half of what it costs to send a row.
        for name, sent_as in (("json", "bytea"), ("timestamptz", "int8")):
            await connection.set_builtin_type_codec(name, schema="pg_catalog", codec_name=sent_as, format="binary")
        # Whatever the server's default: returning from a write is the permission to commit.
        if await connection.fetchval("SHOW synchronous_commit") == "off":
            await connection.execute("SET synchronous_commit = on")
        await connection.execute(_END_FROZEN, _APPLICATION, self._settings.write_timeout_s)
        # The server ends what a frozen process began: its rows would keep all other writers waiting.
        limit_ms = int(self._settings.write_timeout_s * 1_000)
        await connection.execute(
            f"SET statement_timeout = {limit_ms}; SET idle_in_transaction_session_timeout = {limit_ms}"
        )
