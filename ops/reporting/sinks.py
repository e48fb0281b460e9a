"""Which events each sink holds, asked of the sink's own table or ledger."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING

from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, TableNotFoundError

from ops.ending import NotNow

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    import asyncpg

_STORED = "SELECT event_id::text FROM dial_result WHERE event_id = ANY($1::text[]::uuid[])"
_LEDGER = """
SELECT event_id::text, state FROM ops.crm_ledger
WHERE event_id = ANY($1::text[]::uuid[]) AND state IN ('done', 'superseded')
"""


async def held_by(
    consumer: str, connection: asyncpg.Connection, uri: str | None, event_ids: Collection[str], since: datetime
) -> tuple[set[str], set[str]]:
    """Return which of these a sink has applied, and which it superseded (the CRM alone).

    Raises:
        NotNow: the analytics table cannot be read, or nobody said where it is.
    """
    wanted = list(event_ids)
    if consumer == "storage":
        return {row[0] for row in await connection.fetch(_STORED, wanted)}, set()
    if consumer == "crm":
        rows = await connection.fetch(_LEDGER, wanted)
        done = {event_id for event_id, state in rows if state == "done"}
        return done, {event_id for event_id, _ in rows} - done
    if uri is None:
        raise NotNow("where is the analytics table? ANALYTICS_URI names it, or a running `up` by --data")
    return (await asyncio.to_thread(_in_analytics, uri, since)).intersection(wanted), set()


def _in_analytics(uri: str, since: datetime) -> set[str]:
    options = json.loads(os.environ.get("ANALYTICS_STORAGE_OPTIONS", "{}"))
    # `date` is that of `received_at`, of the copy that came first: at most an hour before.
    query = f"SELECT event_id FROM t WHERE date >= DATE '{since.date()}' - INTERVAL '1' DAY"  # noqa: S608  # a date
    try:
        pieces = QueryBuilder().register("t", DeltaTable(uri, storage_options=options)).execute(query)
        return {str(one) for piece in pieces for one in piece["event_id"].to_pylist()}
    except TableNotFoundError:
        return set()
    except (DeltaError, OSError) as error:
        raise NotNow(f"the analytics table cannot be read: {type(error).__name__}") from None
