"""`dial-results report`: whether every callback and every result is accounted for."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime, timedelta

import click

from ops.ending import run_or_later
from ops.places import Places, database, later, with_places
from ops.reporting import task_words
from ops.reporting.balance import results
from ops.reporting.balance_words import Balance
from ops.reporting.callbacks import callbacks
from ops.reporting.task import Asked, Task, task_report
from ops.times import TimeType, parse_time

CHECK_FAILED = 1


@click.group()
def report() -> None:
    """What came, what became of it, and whether that adds up."""


@report.command("balance", epilog="Example: dial-results report balance --hour 2026-11-24T03:00")
@click.option("--hour", type=TimeType(), required=True, help="Results received in this hour (UTC): ISO, 1h for ago.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.option("--receiver-admin-url", metavar="URL", help="The receiver's admin port; by default RECEIVER_ADMIN_URL, or that of an `up`.")  # fmt: skip  # noqa: E501
@with_places
def balance_command(*, hour: datetime, as_json: bool, receiver_admin_url: str | None, places: Places) -> None:
    """Account for every result of one hour, in every sink, and for every callback since the receiver's start.

    Results are counted in the durable places themselves: what was published from `dial-results`; applied from the table
    of results, the analytics table and the CRM's ledger; dead from the dead-letter topics; erased from
    `dial-results.erased`; waiting by the committed offsets. So a row that somebody deleted by hand shows.

    Callbacks are what the receiver itself counts: received, journaled, and what came of them.

    Exits with 1 where it does not add up, 75 where Kafka, PostgreSQL, the analytics table or the receiver is away.
    """
    since = hour.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    url = receiver_admin_url or places.receiver_admin_url
    counted = run_or_later("report balance", _counted(places, since, url))
    click.echo(json.dumps(counted.told()) if as_json else "\n".join(counted.lines()))
    if not counted.even:
        sys.exit(CHECK_FAILED)
    if url and counted.callbacks is None:
        later("report balance", f"the receiver does not answer at {url}: its callbacks are not counted")


async def _counted(places: Places, since: datetime, receiver_admin_url: str | None) -> Balance:
    async with database(places.dsn()) as connection:
        published, sheets = await results(connection, places, since)
    return Balance(since, published, sheets, await callbacks(receiver_admin_url) if receiver_admin_url else None)


def _elapsed(_context: click.Context, _parameter: click.Parameter, text: str) -> timedelta:
    if not re.fullmatch(r"\d{1,5}(s|m|h|d)", text):
        raise click.BadParameter(f"{text!r} is no length of time: give 90s, 25m, 2h or 1d")
    now = datetime.now(UTC)
    return now - parse_time(text, now)


@report.command("task", epilog="Example: dial-results report task 66635573 --merchant acme --uploaded 12000")
@click.argument("task_id", metavar="TASK")
@click.option("--merchant", help="Whose task; by default of whoever has one of this id in storage.")
@click.option("--uploaded", type=click.IntRange(0), help="How many contacts were uploaded to Blu.")
@click.option("--late-after", default="25m", show_default=True, callback=_elapsed, help="Received so long after the call, a result is late.")  # fmt: skip  # noqa: E501
@click.option("--since", type=TimeType(), help="Read the topic from then; by default from the task's first result on.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@with_places
def task_command(
    *,
    task_id: str,
    merchant: str | None,
    uploaded: int | None,
    late_after: timedelta,
    since: datetime | None,
    as_json: bool,
    places: Places,
) -> None:
    """Say how complete one task is: what came, what is missing, late, repeated, and what could not be read.

    Rows of storage, and results that only the topic has. Of the topic only the task's own time is read, and what
    storage has not committed yet. `dial-results reconcile` says which results are missing.

    Exits with 1 where contacts are missing or nothing at all came, 75 where Kafka or PostgreSQL is away.
    """
    found = run_or_later("report task", _of_task(places, Asked(task_id, merchant, late_after, since)))
    told = task_words.told(found, task_id, uploaded, late_after)
    click.echo(json.dumps(told) if as_json else "\n".join(task_words.lines(told)))
    sys.exit(0 if told["complete"] else CHECK_FAILED)


async def _of_task(places: Places, asked: Asked) -> Task:
    async with database(places.dsn()) as connection:
        return await task_report(connection, places.kafka, asked)
