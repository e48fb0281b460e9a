"""Which bodies are resubmitted: `ops.quarantine_state`, and the lock that lets one operator do it at a time."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ops.ending import NotNow
from schemas.topics import QUARANTINE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    import asyncpg

    from ops.quarantining.kept import Kept

RESUBMITTED = "resubmitted"
_LOCK = "hashtextextended('dial-results quarantine resubmit', 0)"
_SETTLED = 'SELECT partition, "offset", timestamp_ms FROM ops.quarantine_state WHERE topic = $1'
_SETTLE = """
INSERT INTO ops.quarantine_state
    (topic, partition, "offset", timestamp_ms, state, merchant, received_at, reason, event_ids, resubmit_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::uuid[], $10)
ON CONFLICT DO NOTHING
"""


class Settled:
    """The places that are settled. A topic that was made anew begins at offset 0 again: the time tells them apart."""

    def __init__(self, known: Iterable[tuple[int, int, int]]) -> None:
        self._known = set(known)

    def __contains__(self, kept: Kept) -> bool:
        return (kept.partition, kept.offset, kept.timestamp_ms) in self._known


async def settled(connection: asyncpg.Connection) -> Settled:
    """Read what is settled."""
    return Settled(tuple(row) for row in await connection.fetch(_SETTLED, QUARANTINE))


async def settle(
    connection: asyncpg.Connection, became: Sequence[tuple[Kept, Sequence[str]]], resubmit_id: str
) -> None:
    """Write down, all or none, that these bodies have become these events."""
    rows = [
        (
            QUARANTINE,
            kept.partition,
            kept.offset,
            kept.timestamp_ms,
            RESUBMITTED,
            kept.merchant,
            kept.received_at,
            kept.reason,
            list(event_ids),
            resubmit_id,
        )
        for kept, event_ids in became
    ]
    async with connection.transaction():
        await connection.executemany(_SETTLE, rows)


@asynccontextmanager
async def alone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Be the only one who resubmits. Raises NotNow."""
    if not await connection.fetchval(f"SELECT pg_try_advisory_lock({_LOCK})"):
        raise NotNow("another resubmit is running; nothing was done")
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute(f"SELECT pg_advisory_unlock({_LOCK})")
