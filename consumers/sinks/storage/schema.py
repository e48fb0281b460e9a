"""Which revision of the database this code needs, and which one is there. No Alembic here: its import takes seconds."""

from __future__ import annotations

import asyncpg

HEAD = "0005"
"""The newest revision under `migrations/versions`; a test holds the two together."""

VERSION_TABLE = "schema_version"
VERSION_SCHEMA = "ops"
CONNECT_TIMEOUT_S = 10.0

_MISSING = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)


async def current_revision(connection: asyncpg.Connection) -> str | None:
    """Return the database's revision, None where no migration ever ran."""
    try:
        revision: str | None = await connection.fetchval(f"SELECT version_num FROM {VERSION_SCHEMA}.{VERSION_TABLE}")  # noqa: S608  # two constants
    except _MISSING:
        return None
    return revision


def is_current(revision: str | None) -> bool:
    """Tell whether this code can work on it. A newer one is fine: migrations only add."""
    return revision is not None and revision >= HEAD


async def schema_is_current(dsn: str) -> bool:
    """Tell, in one round trip and without Alembic, whether `dial-results storage migrate` has nothing to do.

    Raises:
        OSError, TimeoutError, asyncpg.PostgresError: the database cannot be asked.
    """
    connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)
    try:
        return is_current(await current_revision(connection))
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)
