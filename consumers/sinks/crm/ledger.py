"""The ledger: what was sent to which CRM, and what came of it. PostgreSQL, table `ops.crm_ledger`.

Its table comes from the storage migrations (`dial-results storage migrate`). One row an event and destination; states:
`pending` (a call was begun, its outcome is not known), `done`, `superseded` (a newer result of the contact is done),
`rejected`. `properties` is what was sent, kept while pending and for the newest done result of a contact.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
import orjson

from consumers.sink import SinkUnavailable

from .mapping import Item, Rank
from .plan import Known

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable

    from .settings import Settings

_CONNECT_S = 10.0
_QUERY_S = 10.0  # a round of 1,000 contacts takes 50 ms
_CLOSE_S = 5.0
_GRACE_S = 10.0  # for the queries on either side of the calls
_CONNECTIONS = 3  # one holds the locks, one writes intents, one replaces either when it is lost

_COLUMNS = "event_id, contact, newest_known, newest_at, properties"
_LOCK = "SELECT pg_advisory_xact_lock(key) FROM unnest($1::bigint[]) AS key"
_SETTLED = """
SELECT event_id FROM ops.crm_ledger
WHERE destination = $1 AND event_id = ANY($2::uuid[]) AND state IN ('done', 'superseded')
"""
_NEWEST = f"""
SELECT newest.* FROM unnest($2::text[]) AS wanted CROSS JOIN LATERAL (
    SELECT {_COLUMNS} FROM ops.crm_ledger
    WHERE destination = $1 AND contact = wanted AND state = 'done'
    ORDER BY newest_known DESC, newest_at DESC, event_id DESC LIMIT 1
) AS newest
"""  # noqa: S608  # a constant
_PENDING = f"""
SELECT {_COLUMNS} FROM ops.crm_ledger WHERE destination = $1 AND state = 'pending' AND contact = ANY($2::text[])
"""  # noqa: S608  # likewise
_WRITE = """
INSERT INTO ops.crm_ledger AS ledger (
    destination, event_id, contact, newest_known, newest_at, state, properties, remote_id, reason, attempts
)
SELECT $1, * FROM unnest(
    $2::uuid[], $3::text[], $4::boolean[], $5::timestamptz[], $6::text[], $7::text[], $8::text[], $9::text[], $10::int[]
)
ON CONFLICT (destination, event_id) DO UPDATE SET
    state = excluded.state, properties = excluded.properties, reason = excluded.reason,
    remote_id = coalesce(excluded.remote_id, ledger.remote_id),
    attempts = ledger.attempts + excluded.attempts, updated_at = now()
"""

_REMOTE_ID = """
SELECT remote_id FROM ops.crm_ledger WHERE destination = $1 AND contact = $2 AND remote_id IS NOT NULL
ORDER BY updated_at DESC LIMIT 1
"""
_ERASE = "DELETE FROM ops.crm_ledger WHERE destination = $1 AND contact = $2"

PENDING, DONE, SUPERSEDED, REJECTED = "pending", "done", "superseded", "rejected"

# SQLSTATE classes: connection, login, database missing, rolled back, resources, locks, shut down, I/O, read only or
# idle too long; and schema, table or column missing, privileges missing: an operator mends those.
_MOMENT = ("08", "28", "3D", "40", "53", "55", "57", "58", "25", "3F", "42P01", "42703", "42501")
DISCONNECTED = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresError)


class Row(NamedTuple):
    """What is to stand in the ledger for one item."""

    item: Item
    state: str
    remote_id: str | None = None
    reason: str | None = None
    keep: bool = False
    """Keep its properties: while pending, and for the newest done result of its contact."""
    attempts: int = 0
    """Attempts to be added."""


class Held:
    """The ledger of some contacts, while nobody else can send or settle anything of theirs."""

    def __init__(self, connection: asyncpg.Connection, destination: str) -> None:
        self._connection = connection
        self._destination = destination

    async def known(self, event_ids: Collection[str], contacts: Collection[str]) -> Known:
        """Read what is settled, pending and newest."""
        settled = await self._connection.fetch(_SETTLED, self._destination, list(event_ids))
        pending = await self._connection.fetch(_PENDING, self._destination, list(contacts))
        return Known(
            settled=frozenset(str(row["event_id"]) for row in settled),
            newest=await self.newest(contacts),
            pending=tuple(_item(row) for row in pending),
        )

    async def newest(self, contacts: Collection[str]) -> dict[str, Item]:
        """Return the newest done item of each contact that has one."""
        rows = await self._connection.fetch(_NEWEST, self._destination, list(contacts))
        return {row["contact"]: _item(row) for row in rows}

    async def write(self, rows: Iterable[Row]) -> None:
        """Write these rows; they stand when the hold ends."""
        await _write(self._connection, self._destination, rows)

    async def remote_id(self, contact: str) -> str | None:
        """Return the CRM's own id of a contact, None where no answer ever named it."""
        found: str | None = await self._connection.fetchval(_REMOTE_ID, self._destination, contact)
        return found

    async def erase(self, contact: str) -> None:
        """Delete all rows of a contact; they are gone when the hold ends."""
        await self._connection.execute(_ERASE, self._destination, contact)


class Ledger:
    """One destination's rows. Every method raises what `unavailable` knows, if the database is away."""

    def __init__(self, pool: asyncpg.Pool, destination: str, lock_timeout_s: float) -> None:
        self._pool = pool
        self._destination = destination
        self._lock_timeout = f"{lock_timeout_s * 1000:.0f}"

    async def check(self) -> None:
        """See that the table is there, with all columns that are used."""
        await self._pool.fetch(_NEWEST, self._destination, [], timeout=_QUERY_S)

    @asynccontextmanager
    async def hold(self, contacts: Collection[str]) -> AsyncIterator[Held]:
        """Lock these contacts until the body ends; what it wrote is durable then.

        Locks are taken in one order by everybody, so nobody waits in a circle. If this process stands still for too
        long, the database ends the transaction and gives the contacts to others.
        """
        keys = sorted({_key(self._destination, contact) for contact in contacts})
        async with (
            self._pool.acquire(timeout=_CONNECT_S) as connection,
            connection.transaction(isolation="read_committed"),
        ):
            await connection.execute("SELECT set_config('lock_timeout', $1, true)", self._lock_timeout)
            await connection.execute(_LOCK, keys)
            yield Held(connection, self._destination)

    async def look(self, event_ids: Collection[str], contacts: Collection[str]) -> Known:
        """Read without locking anything, for a look: it may be out of date on return."""
        async with self._pool.acquire(timeout=_CONNECT_S) as connection, connection.transaction(readonly=True):
            return await Held(connection, self._destination).known(event_ids, contacts)

    async def intend(self, items: Collection[Item]) -> None:
        """Note, durably and before the call, that these are about to be sent; only under their lock."""
        if items:
            async with self._pool.acquire(timeout=_CONNECT_S) as connection:
                await _write(connection, self._destination, [Row(one, PENDING, keep=True, attempts=1) for one in items])

    async def done(self) -> list[str]:
        """Return the event ids of all done results."""
        rows = await self._pool.fetch(
            "SELECT event_id FROM ops.crm_ledger WHERE destination = $1 AND state = 'done'", self._destination
        )
        return [str(row["event_id"]) for row in rows]


@asynccontextmanager
async def open_ledger(settings: Settings) -> AsyncIterator[Ledger]:
    """Connect to the ledger's database. Raises what `unavailable` knows."""
    idle_s = settings.hold_s + settings.call_timeout_s + _GRACE_S
    pool = await asyncpg.create_pool(
        settings.ledger_dsn.get_secret_value(),
        min_size=1,
        max_size=_CONNECTIONS,
        timeout=_CONNECT_S,
        command_timeout=max(_QUERY_S, 2 * settings.lock_timeout_s),
        server_settings={
            "application_name": "dial-results-crm",
            "synchronous_commit": "on",  # a `done` that a crash forgets is a second effect
            "idle_in_transaction_session_timeout": f"{idle_s * 1000:.0f}",
        },
    )
    ledger = Ledger(pool, settings.account, settings.lock_timeout_s)
    try:
        await ledger.check()
        yield ledger
    finally:
        await _close(pool)


async def _close(pool: asyncpg.Pool) -> None:
    try:
        async with asyncio.timeout(_CLOSE_S):
            await pool.close()
    except TimeoutError:
        pool.terminate()


def unavailable(error: BaseException) -> SinkUnavailable | None:
    """Return what to raise if the database is at fault and may recover, else None: then it is a bug."""
    if isinstance(error, asyncpg.PostgresError):
        state = str(error.sqlstate)
        return SinkUnavailable(f"ledger-sqlstate-{state}") if state.startswith(_MOMENT) else None
    if isinstance(error, ValueError):  # asyncpg's DataError: a value of ours, not the connection
        return None
    return SinkUnavailable(f"ledger-{type(error).__name__}") if isinstance(error, DISCONNECTED) else None


async def _write(connection: asyncpg.Connection, destination: str, rows: Iterable[Row]) -> None:
    values = [
        (
            row.item.event_id,
            row.item.contact,
            row.item.rank.known,
            row.item.rank.at,
            row.state,
            orjson.dumps(row.item.properties).decode() if row.keep else None,
            row.remote_id,
            row.reason,
            row.attempts,
        )
        for row in rows
    ]
    if values:
        await connection.execute(_WRITE, destination, *(list(column) for column in zip(*values, strict=True)))


def _item(row: asyncpg.Record) -> Item:
    event_id = str(row["event_id"])
    properties = orjson.loads(row["properties"]) if row["properties"] else {}
    return Item(event_id, row["contact"], Rank(row["newest_known"], row["newest_at"], event_id), properties)


def _key(destination: str, contact: str) -> int:
    """Name a contact's lock: 64 bits of a hash. Two that share one merely wait for each other."""
    digest = hashlib.blake2b(f"{destination}\0{contact}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
