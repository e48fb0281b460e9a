"""Which of PostgreSQL's refusals blames the row, which the moment, and which is a bug (SQLSTATE, appendix A)."""

from __future__ import annotations

import asyncpg

# The first two characters are the class.
_ROW = ("22", "23", "54")  # data exception, constraint, program limit (an index entry that is too long)
_MOMENT = (
    "08",  # connection exception
    "28",  # login refused: an operator mends that, or rotates the password
    "3D",  # the database is not there (yet)
    "40",  # rolled back: deadlock, serialization
    "53",  # out of disk, memory, connections
    "55",  # object in use, lock not available
    "57",  # shut down, starting up, cancelled
    "58",  # I/O error of the server
    "25006",  # read only: a standby, after a failover
    "42501",  # privileges are missing: an operator mends that
)

DISCONNECTED = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises when the connection, and not a statement, is at fault."""


def blames_row(error: BaseException) -> str | None:
    """Return the typed reason if the refusal is about a value of the row, else None."""
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return "sqlstate-22000"  # asyncpg's own DataError: a value that it could not even write
    state = str(error.sqlstate) if isinstance(error, asyncpg.PostgresError) else ""
    return f"sqlstate-{state}" if state.startswith(_ROW) else None


def blames_moment(error: BaseException) -> str | None:
    """Return a reason without personal data if it may work later, else None."""
    if isinstance(error, asyncpg.PostgresError):
        state = str(error.sqlstate)
        return f"sqlstate-{state}" if state.startswith(_MOMENT) else None
    return type(error).__name__ if isinstance(error, DISCONNECTED) else None
