"""Delete what is older than results are kept, in small steps that keep nobody waiting."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from .schema import CONNECT_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

_STATEMENT_TIMEOUT_S = 600.0
_COUNT = "SELECT count(*) rows, min(received_at) oldest FROM dial_result WHERE received_at < $1"
_DELETE = """
DELETE FROM dial_result
    WHERE ctid = ANY(ARRAY(SELECT ctid FROM dial_result WHERE received_at < $1 LIMIT $2)) AND received_at < $1
"""


@dataclass(frozen=True)
class Old:
    """What is older than the limit."""

    rows: int
    oldest: datetime | None


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect, and close in the end. Raises OSError, TimeoutError, asyncpg.PostgresError."""
    connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S, command_timeout=_STATEMENT_TIMEOUT_S)
    try:
        yield connection
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


async def count(connection: asyncpg.Connection, before: datetime) -> Old:
    """Count the results that were received before this moment."""
    found = await connection.fetchrow(_COUNT, before)
    return Old(found["rows"], found["oldest"])


async def delete(connection: asyncpg.Connection, before: datetime, batch: int) -> AsyncIterator[int]:
    """Delete those, `batch` at a time; yields how many went after each step, which is committed by then."""
    while deleted := int((await connection.execute(_DELETE, before, batch)).split()[-1]):
        yield deleted
