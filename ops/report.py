"""`dial-results report`: whether every result is accounted for."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from ops.ending import run_or_later
from ops.places import Places, database, with_places
from ops.reporting import task_words
from ops.reporting.balance import HOUR, Published, Sheet, balance
from ops.reporting.task import Asked, Task, task_report
from ops.times import TimeType, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECK_FAILED = 1
_SHOWN = 10
_PARTS = ("applied", "superseded", "waiting", "dead", "erased")


@click.group()
def report() -> None:
    """What came, what became of it, and whether that adds up."""


@report.command("balance", epilog="Example: dial-results report balance --hour 2026-11-24T03:00")
@click.option("--hour", type=TimeType(), required=True, help="Results received in this hour (UTC): ISO, 1h for ago.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@with_places
def balance_command(*, hour: datetime, as_json: bool, places: Places) -> None:
    """Account for every result of one hour, in every sink.

    Counted in the durable places themselves: what was published from `dial-results`; applied from the table of results,
    the analytics table and the CRM's ledger; dead from the dead-letter topics; erased from `dial-results.erased`;
    waiting by the committed offsets. So a row that somebody deleted by hand shows.

    Exits with 1 where it does not add up, 75 where Kafka, PostgreSQL or the analytics table is away.
    """
    since = hour.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    published, sheets = run_or_later("report balance", _counted(places, since))
    even = not any(sheet.missing for sheet in sheets.values())
    if as_json:
        click.echo(json.dumps(_told(since, published, sheets, even=even)))
    else:
        _show(since, published, sheets)
    sys.exit(0 if even else CHECK_FAILED)


async def _counted(places: Places, since: datetime) -> tuple[Published, dict[str, Sheet]]:
    async with database(places.dsn()) as connection:
        return await balance(connection, places, since)


def _told(since: datetime, published: Published, sheets: Mapping[str, Sheet], *, even: bool) -> dict[str, Any]:
    return {
        "hour": since.isoformat(),
        "even": even,
        "published": published.records,
        "first_time": len(published.first),
        "repeats": published.repeats,
        "re_sent": published.resent,
        "reconciled": published.reconciled,
        "sinks": {name: asdict(sheet) for name, sheet in sheets.items()},
    }


def _show(since: datetime, published: Published, sheets: Mapping[str, Sheet]) -> None:
    click.echo(f"results received from {since:%Y-%m-%d %H:%M} to {since + HOUR:%H:%M} UTC")
    click.echo(
        f"published {published.records} = {len(published.first)} first-time + {published.repeats} repeats "
        f"+ {published.resent} re-sent; {published.reconciled} of the first-time were reconciled"
    )
    for name, sheet in sheets.items():
        parts = " + ".join(f"{getattr(sheet, part)} {part}" for part in _PARTS)
        told = f"; {len(sheet.missing)} MISSING" if sheet.missing else ""
        click.echo(f"{name:<10} {sheet.first_time} = {parts}{told}")
        for event_id in sheet.missing[:_SHOWN]:
            click.echo(f"           missing: event {event_id}")


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
