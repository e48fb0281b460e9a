"""Who may do what: group roles without a login, to be granted to the accounts of processes and people."""

from __future__ import annotations

import asyncpg

from .schema import CONNECT_TIMEOUT_S, current_revision, is_current

WRITER = "dial_results_writer"
READER = "dial_results_reader"
MASKED_READER = "dial_results_reader_masked"

_MASKED = "task_progress, dial_result_masked, latest_result_masked, contact_history_masked"
_READABLE = f"dial_result, latest_result, contact_history, {_MASKED}"
_CREATE = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role} NOLOGIN; END IF;
END $$;
"""
_GRANTS = f"""
DO $$ BEGIN
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO {WRITER}', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO {READER}, {MASKED_READER}', current_database());
END $$;
GRANT USAGE ON SCHEMA public TO {WRITER}, {READER}, {MASKED_READER};
GRANT USAGE ON SCHEMA ops TO {WRITER};
GRANT SELECT ON ops.schema_version TO {WRITER};
GRANT SELECT, INSERT, DELETE ON dial_result TO {WRITER};
GRANT SELECT, INSERT ON ops.erasure_receipt TO {WRITER};
GRANT SELECT ON {_READABLE} TO {READER};
GRANT SELECT ON {_MASKED} TO {MASKED_READER};
"""


class NotMigrated(Exception):  # noqa: N818  # a state of affairs
    """The tables and views are not those that the grants are for: `dial-results storage migrate` comes first."""


def sql() -> str:
    """Return the SQL that creates the roles where they are missing, and grants what each may do. Takes nothing away."""
    return "".join(_CREATE.format(role=role) for role in (WRITER, READER, MASKED_READER)) + _GRANTS


async def grant(dsn: str) -> None:
    """Run it, as one transaction.

    Raises:
        NotMigrated: the views are not there, or not all of them.
        OSError, TimeoutError, asyncpg.PostgresError: the database is away, or refused a statement.
    """
    connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S)
    try:
        if not is_current(await current_revision(connection)):
            raise NotMigrated
        async with connection.transaction():
            await connection.execute(sql())
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)
