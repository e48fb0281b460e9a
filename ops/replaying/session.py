"""One command's work on one job: count, ask and copy; go on with it; have another process stop it."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ops import audit
from ops.kafka import partition_counts
from ops.places import database
from schemas import topics
from schemas.merchants import load_merchants

from . import jobs
from .known import known_by
from .plan import Expected, Tally
from .run import Runner
from .sources import FromStorage, FromTopic, Source
from .target import Target, target

if TYPE_CHECKING:
    from collections.abc import Iterator

    import asyncpg

    from ops.places import Places

    from .jobs import Job
    from .show import Show

_SETTLE_S = 10.0  # a runner looks every second
_COUNTED_AT_A_TIME = 10_000


async def create(places: Places, job: Job, *, quick: bool, dry_run: bool, yes: bool, show: Show) -> str | None:
    """Count, ask, and copy. Returns the job's state, None if it was not confirmed."""
    to = target(job.target, await partition_counts(places.kafka))
    job.target, job.consumer = to.topic, to.consumer
    async with database(places.dsn()) as connection, database(places.dsn()) as reading:
        source = await _source(places, job, reading)
        job.progress, expected = await source.begin()
        if job.source == jobs.TOPIC:
            show.say(f"{expected.at_most:,} records at most, by offsets")
        if not quick:
            expected = await _count(source, job, expected, connection, places, show)
        show.plan(expected, job.rate, to.consumer)
        if dry_run or not (expected.at_most if expected.records is None else expected.records):
            show.dry(expected)
            return jobs.DONE
        if not yes and not click.confirm("Replay them?", err=True):
            return None
        job.expected = {name: getattr(expected, name) for name in expected.__struct_fields__}
        async with jobs.held(connection, job.id):
            await jobs.create(connection, job)
            await _audit(connection, "replay", job)
            return await _work(connection, source, job, to, places, show)


async def _count(
    source: Source, job: Job, expected: Expected, connection: asyncpg.Connection, places: Places, show: Show
) -> Expected:
    tally = Tally(known_by(job.consumer, connection, places.analytics_uri))
    looked_at = 0
    with show.bar("counting", expected.at_most) as told:
        async for lot in source.lots(job.progress, _COUNTED_AT_A_TIME):
            await tally.add(lot.chosen)
            told(looked_at := looked_at + lot.looked_at)
    return await tally.done(expected)


async def resume(places: Places, job_id: str, rate: int | None, show: Show) -> str:
    """Go on with a job that was paused or interrupted; return its state then. Raises NoSuchJob, JobHeld."""
    counts = await partition_counts(places.kafka)
    async with (
        database(places.dsn()) as connection,
        database(places.dsn()) as reading,
        jobs.held(connection, job_id),
    ):
        job = await jobs.get(connection, job_id)
        if job.state in (jobs.DONE, jobs.CANCELLED):
            raise click.UsageError(f"{job_id} is {job.state}")
        job.rate = job.rate if rate is None else rate
        to = target(job.consumer or job.target, counts)
        source = await _source(places, job, reading)
        await jobs.go_on(connection, job)
        await _audit(connection, "replay resume", job)
        return await _work(connection, source, job, to, places, show)


async def _work(
    connection: asyncpg.Connection, source: Source, job: Job, to: Target, places: Places, show: Show
) -> str:
    show.say(f"job {job.id}; Ctrl-C pauses it, `dial-results replay resume {job.id}` goes on")
    with show.bar(f"to {to.topic}", job.expected["at_most"]) as told:
        runner = Runner(connection, job, lambda now: told(now.looked_at))
        with _paused_by_signals(runner):
            job.state = await runner.run(source, places.kafka, to.partition)
    await _audit(connection, f"replay {job.state}", job)
    show.job(await jobs.get(connection, job.id))
    return job.state


@contextmanager
def _paused_by_signals(runner: Runner) -> Iterator[None]:
    loop, numbers = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, runner.pause)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _source(places: Places, job: Job, reading: asyncpg.Connection) -> Source:
    merchants = load_merchants(places.merchants_file) if places.merchants_file else {}
    partitions = (await partition_counts(places.kafka))[topics.DIAL_RESULTS]
    if job.source == jobs.STORAGE:
        return FromStorage(reading, partitions, job.filters, job.id)
    return FromTopic(places.kafka, partitions, job.filters, merchants, job.id)


async def ask(places: Places, job_id: str, wanted: str) -> str:
    """Ask, and wait until it has happened; a job without a runner is settled here."""
    async with database(places.dsn()) as connection:
        job = await jobs.get(connection, job_id)
        if not await jobs.ask(connection, job_id, wanted):
            raise click.UsageError(f"{job_id} is {job.state}")
        await _audit(connection, f"replay {wanted}", job)
        async with asyncio.timeout(_SETTLE_S):
            while (job := await jobs.get(connection, job_id)).state == jobs.RUNNING:
                await asyncio.sleep(0.1)
        if job.state in (jobs.INTERRUPTED, jobs.PAUSED) and wanted in jobs.BECOMES:
            await jobs.settle(connection, job_id, jobs.BECOMES[wanted])
            job = await jobs.get(connection, job_id)
        return job.state


async def _audit(connection: asyncpg.Connection, command: str, job: Job) -> None:
    said = {"job": job.id, "to": job.target, "source": job.source, "rate": job.rate} | job.filters.for_audit()
    counts = {name: value for name, value in job.expected.items() if isinstance(value, int)}
    await audit.record(connection, command, said, counts | {"looked_at": job.looked_at, "sent": job.sent})
