"""Which events each sink holds, asked of the sink's own table or ledger."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, TableNotFoundError

from ops.ending import NotNow

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    import asyncpg

_FEW = 1_000
_REPEATS = timedelta(hours=1)
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
    return await asyncio.to_thread(_in_analytics, uri, wanted, since), set()


def _in_analytics(uri: str, wanted: list[str], since: datetime) -> set[str]:
    options = json.loads(os.environ.get("ANALYTICS_STORAGE_OPTIONS", "{}"))
    try:
        table = DeltaTable(uri, storage_options=options)
        return _looked_up(table, wanted, since)
    except TableNotFoundError:
        return set()
    except (DeltaError, OSError) as error:
        raise NotNow(f"the analytics table cannot be read: {type(error).__name__}") from None


def _looked_up(table: DeltaTable, wanted: list[str], since: datetime) -> set[str]:
    """Return which of the ids are there. The row of the copy that came first may be an hour older than `since`.

    A few are looked for in the files of those hours, then in the later ones: files are skipped by day and by
    `received_at`, the rest reads one column. Many are compared here: a list in SQL of that length takes longer.
    """
    begin, end = since - _REPEATS, since + _REPEATS
    later = f"date >= DATE '{begin.date()}' AND received_at >= {_moment(begin)}"
    if len(wanted) > _FEW:
        return _ids(table, later).intersection(wanted)
    these = "event_id IN ({})".format(", ".join(f"'{uuid.UUID(one)}'" for one in wanted) or "NULL")
    near = f"{later} AND date <= DATE '{end.date()}' AND received_at <= {_moment(end)}"
    found = _ids(table, f"{near} AND {these}")
    return found if len(found) == len(set(wanted)) else _ids(table, f"{later} AND {these}")


def _ids(table: DeltaTable, condition: str) -> set[str]:
    pieces = QueryBuilder().register("t", table).execute(f"SELECT event_id FROM t WHERE {condition}")  # noqa: S608  # ours
    return {str(one) for piece in pieces for one in piece["event_id"].to_pylist()}


def _moment(at: datetime) -> str:
    return f"arrow_cast({round(at.timestamp() * 1_000_000)}, 'Timestamp(Microsecond, Some(\"UTC\"))')"
