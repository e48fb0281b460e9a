"""The job's row in `ops.replay_job`, and the lock that says that somebody works on it."""

from __future__ import annotations

import hashlib
import json
import secrets
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from ops.audit import who

from .filters import Filters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

RUNNING, PAUSED, CANCELLED, DONE, INTERRUPTED = "running", "paused", "cancelled", "done", "interrupted"
RUN, PAUSE, CANCEL = "run", "pause", "cancel"
BECOMES = {PAUSE: PAUSED, CANCEL: CANCELLED}
TOPIC, STORAGE = "topic", "storage"

_COLUMNS = "id, created_at, updated_at, who, source, target, consumer, filters, rate, state, wanted, expected, progress, looked_at, sent"  # noqa: E501
_LIST = f"SELECT {_COLUMNS} FROM ops.replay_job ORDER BY created_at DESC LIMIT $1"  # noqa: S608
_ONE = f"SELECT {_COLUMNS} FROM ops.replay_job WHERE id = $1"  # noqa: S608
_CREATE = """
INSERT INTO ops.replay_job (id, who, source, target, consumer, filters, rate, state, wanted, expected, progress)
VALUES ($1, $2, $3, $4, $5, $6::json, $7, 'running', 'run', $8::json, $9::json)
"""
_CHECKPOINT = """
UPDATE ops.replay_job SET progress = $2::json, looked_at = $3, sent = $4, updated_at = now()
WHERE id = $1 RETURNING wanted
"""
_ASK = "UPDATE ops.replay_job SET wanted = $2, updated_at = now() WHERE id = $1 AND state = ANY($3::text[])"
_STATE = "UPDATE ops.replay_job SET state = $2, updated_at = now() WHERE id = $1"
_GO_ON = "UPDATE ops.replay_job SET state = 'running', wanted = 'run', rate = $2, updated_at = now() WHERE id = $1"


class NoSuchJob(LookupError):  # noqa: N818  # a state of affairs
    """There is no job of this id."""


class JobHeld(Exception):  # noqa: N818  # likewise
    """Another process works on this job."""


class Job(msgspec.Struct):
    """One replay. `progress` is the source's own: up to where everything is in the target, durably."""

    id: str
    created_at: datetime
    updated_at: datetime
    who: str
    source: str
    target: str
    consumer: str | None
    filters: Filters
    rate: int
    """Records a second; 0: as fast as it goes."""
    state: str
    wanted: str
    expected: dict[str, Any]
    progress: dict[str, Any]
    looked_at: int = 0
    sent: int = 0

    def told(self) -> dict[str, Any]:
        """Return it for a person or a script."""
        said: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in said.items() if name not in ("progress", "wanted")}


def new(source: str, target: str, consumer: str | None, filters: Filters, rate: int) -> Job:
    """Make a job that is not in the table yet; its id sorts by time."""
    now = datetime.now(UTC)
    name = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    return Job(name, now, now, who(), source, target, consumer, filters, rate, RUNNING, RUN, {}, {})


async def create(connection: asyncpg.Connection, job: Job) -> None:
    """Put it into the table."""
    filters, expected, progress = (
        msgspec.json.encode(one).decode() for one in (job.filters, job.expected, job.progress)
    )
    values = (job.id, job.who, job.source, job.target, job.consumer, filters, job.rate, expected, progress)
    await connection.execute(_CREATE, *values)


async def get(connection: asyncpg.Connection, job_id: str) -> Job:
    """Read one job. Raises NoSuchJob."""
    row = await connection.fetchrow(_ONE, job_id)
    if row is None:
        raise NoSuchJob(job_id)
    return (await _told_apart(connection, [row]))[0]


async def latest(connection: asyncpg.Connection, limit: int) -> list[Job]:
    """Read the newest jobs, the newest first."""
    return await _told_apart(connection, await connection.fetch(_LIST, limit))


async def checkpoint(connection: asyncpg.Connection, job: Job) -> str:
    """Write how far it is; return what is wanted of its runner. This is where a runner without database stops."""
    done = (json.dumps(job.progress), job.looked_at, job.sent)
    wanted: str = await connection.fetchval(_CHECKPOINT, job.id, *done)
    return wanted


async def ask(connection: asyncpg.Connection, job_id: str, wanted: str) -> bool:
    """Ask a job to pause or to be cancelled; return False where its state does not allow that."""
    may = [RUNNING] if wanted == PAUSE else [RUNNING, PAUSED]
    return str(await connection.execute(_ASK, job_id, wanted, may)) == "UPDATE 1"


async def settle(connection: asyncpg.Connection, job_id: str, state: str) -> None:
    """Note what became of it."""
    await connection.execute(_STATE, job_id, state)


async def go_on(connection: asyncpg.Connection, job: Job) -> None:
    """Let it run again, at the rate that the job has now."""
    await connection.execute(_GO_ON, job.id, job.rate)


@asynccontextmanager
async def held(connection: asyncpg.Connection, name: str) -> AsyncIterator[None]:
    """Be the only one who works on something, until the body ends, or this connection.

    Raises:
        JobHeld: somebody does.
    """
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _key(name)):
        raise JobHeld(name)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", _key(name))


async def _told_apart(connection: asyncpg.Connection, rows: list[Any]) -> list[Job]:
    """Tell running jobs from those whose runner has gone."""
    jobs = [_job(row) for row in rows]
    keys = [_key(job.id) for job in jobs if job.state == RUNNING]
    # A 64-bit advisory lock shows as two halves in pg_locks.
    found = await connection.fetch(
        """SELECT (classid::bigint << 32) | objid::bigint AS key FROM pg_locks
           WHERE locktype = 'advisory' AND objsubid = 1 AND granted
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND ((classid::bigint << 32) | objid::bigint) = ANY($1::bigint[])""",
        keys,
    )
    alive = {row["key"] for row in found}
    for job in jobs:
        if job.state == RUNNING and _key(job.id) not in alive:
            job.state = INTERRUPTED
    return jobs


def _job(row: Any) -> Job:  # noqa: ANN401  # asyncpg has no types
    said = dict(row)
    for name in ("filters", "expected", "progress"):
        said[name] = json.loads(said[name])
    said["filters"] = msgspec.convert(said["filters"], Filters)
    return Job(**said)


def _key(name: str) -> int:
    digest = hashlib.blake2b(f"dial-results ops\0{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
