"""What the sinks of a running `up` hold, read as any user would: SQL, the Delta table, the CRM's own pages."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import asyncpg
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, TableNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ANSWER_S = 60.0  # for one question to one place
_CRM_CONNECTIONS = 32
CRM_EVENT_PROPERTY = "dial_result_event_id"


class PlaceAway(Exception):  # noqa: N818  # a state of affairs
    """A place does not answer; the message says which and why."""


class Stored(NamedTuple):
    """One row of `dial_result`; times are aware."""

    event_id: str
    record_id: str
    received_at: datetime
    called_at: datetime | None
    source: str


class Effect(NamedTuple):
    """One effect in the CRM; `contact` is `{merchant}:{recordId}`."""

    event_id: str
    contact: str


_ROWS = """
SELECT event_id::text, record_id, received_at, called_at, source FROM dial_result
WHERE merchant = $1 AND task_id = ANY($2::text[])
"""


async def stored(dsn: str, merchant: str, tasks: Iterable[str]) -> list[Stored]:
    """Return PostgreSQL's rows of these tasks. Raises PlaceAway."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            connection = await asyncpg.connect(dsn)
            try:
                rows = await connection.fetch(_ROWS, merchant, list(tasks))
            finally:
                await connection.close(timeout=1)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise PlaceAway(f"PostgreSQL: {type(error).__name__}") from error
    return [Stored(*row) for row in rows]


async def analysed(uri: str, merchant: str, tasks: Iterable[str]) -> Counter[str]:
    """Return how often the Delta table has each event id of these tasks; none before it exists. Raises PlaceAway."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            return await asyncio.to_thread(_event_ids, uri, merchant, list(tasks))
    except TableNotFoundError:
        return Counter()
    except (OSError, DeltaError) as error:
        raise PlaceAway(f"Delta table: {type(error).__name__}") from error


def _event_ids(uri: str, merchant: str, tasks: Sequence[str]) -> Counter[str]:
    listed = ", ".join(f"'{task}'" for task in tasks)  # digits that the simulator made up
    query = f"SELECT event_id FROM results WHERE merchant = '{merchant}' AND task_id IN ({listed})"  # noqa: S608
    batches = QueryBuilder().register("results", DeltaTable(uri)).execute(query)
    return Counter(event for batch in batches for event in batch.column(0).to_pylist())


async def effects(crm_url: str) -> list[Effect]:
    """Return every effect in the CRM that any event ever had. Raises PlaceAway."""
    async with _session() as session:
        found = await _get(session, f"{crm_url}/effects") or []
    return [Effect(effect["event_id"], effect["contact"]) for effect in found]


async def states(crm_url: str, contacts: Iterable[str]) -> dict[str, str | None]:
    """Return which event each contact of the CRM shows, None where it knows no such contact. Raises PlaceAway."""
    names = list(contacts)
    async with _session() as session:
        answers = await asyncio.gather(*(_get(session, f"{crm_url}/contacts/{name}") for name in names))
    return {name: _event_of(answer) for name, answer in zip(names, answers, strict=True)}


def _session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=_CRM_CONNECTIONS)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_read=_ANSWER_S))


async def _get(session: aiohttp.ClientSession, url: str) -> Any:  # noqa: ANN401
    try:
        async with session.get(url) as answer:
            if answer.status == HTTPStatus.NOT_FOUND:
                return None
            answer.raise_for_status()
            return await answer.json()
    except (OSError, aiohttp.ClientError) as error:
        raise PlaceAway(f"sandbox CRM: {type(error).__name__}") from error


def _event_of(contact: dict[str, Any] | None) -> str | None:
    return None if contact is None else contact["properties"].get(CRM_EVENT_PROPERTY)


@dataclass(frozen=True, slots=True)
class Sinks:
    """The three sinks of a running `up`, by their addresses. Every method raises PlaceAway."""

    postgres_dsn: str
    analytics_uri: str
    crm_url: str

    async def stored(self, merchant: str, tasks: Iterable[str]) -> list[Stored]:
        return await stored(self.postgres_dsn, merchant, tasks)

    async def analysed(self, merchant: str, tasks: Iterable[str]) -> Counter[str]:
        return await analysed(self.analytics_uri, merchant, tasks)

    async def effects(self) -> list[Effect]:
        return await effects(self.crm_url)

    async def states(self, contacts: Iterable[str]) -> dict[str, str | None]:
        return await states(self.crm_url, contacts)
