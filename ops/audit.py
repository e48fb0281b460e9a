"""Who did what, when, to how many: table `ops.audit`."""

from __future__ import annotations

import getpass
import json
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg

_WRITE = "INSERT INTO ops.audit (who, command, arguments, counts) VALUES ($1, $2, $3::json, $4::json) RETURNING id"


def who() -> str:
    """Name the one at the keyboard: user@host."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


async def record(
    connection: asyncpg.Connection, command: str, arguments: Mapping[str, Any], counts: Mapping[str, int]
) -> int:
    """Write one entry, durably, and return its id. Neither mapping may hold personal data: ids, times, numbers.

    Raises:
        asyncpg.PostgresError, OSError: the database did not take it; then the command must not go on.
    """
    said = (json.dumps(arguments, default=str), json.dumps(counts))
    entry: int = await connection.fetchval(_WRITE, who(), command, *said)
    return entry
