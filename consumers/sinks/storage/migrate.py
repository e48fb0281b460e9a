"""Bring the database to the newest revision: Alembic writes the SQL, asyncpg runs it, so both show the same text."""

from __future__ import annotations

import io
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config

from .schema import CONNECT_TIMEOUT_S, current_revision, is_current

MIGRATIONS = Path(__file__).with_name("migrations")
_LOCK = 0x6469616C  # "dial": one migration at a time, whoever started it
_STATEMENT_TIMEOUT_S = 3_600.0  # an index on a big table takes its time


async def migrate(dsn: str, *, dry_run: bool = False) -> str:
    """Return the SQL that leads to the newest revision, "" where there is nothing to do; run it unless `dry_run`.

    All of it is one transaction: it happens whole or not at all.

    Raises:
        OSError, TimeoutError, asyncpg.PostgresError: the database is away, or refused a statement.
    """
    connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S, command_timeout=_STATEMENT_TIMEOUT_S)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        revision = await current_revision(connection)
        script = "" if is_current(revision) else sql(revision)
        if script and not dry_run:
            await connection.execute(script)
        return script
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


def sql(revision: str | None) -> str:
    """Return the SQL from this revision (None: an empty database) to the newest, transaction included."""
    written = io.StringIO()
    config = Config(output_buffer=written)
    config.set_main_option("script_location", str(MIGRATIONS))
    command.upgrade(config, f"{revision}:head" if revision else "head", sql=True)
    return written.getvalue()
