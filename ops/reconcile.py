"""`dial-results reconcile`: ask Blu what it has, compare with storage, publish what never arrived."""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from ops.blu.client import PAGE_SIZE, REACH_DAYS
from ops.ending import NotNow, run_now, run_or_later
from ops.places import Places, database, with_places
from ops.printable import printable
from ops.reconciling.session import Asked, Found, look, publish
from ops.times import parse_time
from schemas.merchants import MerchantsFileError, Query, load_merchants

if TYPE_CHECKING:
    from collections.abc import Callable

CHECK_FAILED = 1
_NAME = "reconcile"
_SHOWN = 20  # tasks, and of each kind event ids of a task
_RATE = 25.0
_EVERY = re.compile(r"\d{1,6}\s*(s|min|m|h|d)")


def _since(_context: click.Context, _parameter: click.Parameter, text: str | None) -> Callable[[], datetime] | None:
    """Check it now; with `--every` it means another moment each time."""
    if text is None:
        return None
    try:
        moment = parse_time(text, datetime.now(UTC))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if datetime.now(UTC) - moment > timedelta(days=REACH_DAYS):
        raise click.BadParameter(f"Blu's query reaches back {REACH_DAYS} days")
    return lambda: parse_time(text, datetime.now(UTC))


def _every(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    if not _EVERY.fullmatch(text.strip().lower()):
        raise click.BadParameter("give 30min, 6h, 1d")
    now = datetime.now(UTC)
    return max(1.0, (now - parse_time(text, now)).total_seconds())


def _tasks(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").split() if path else []
    except (OSError, UnicodeDecodeError):
        raise click.BadParameter("it cannot be read as text") from None
    return tuple(lines)


_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(epilog="Example: dial-results reconcile --merchant acme --since yesterday")
@click.option("--merchant", required=True, help="Whose results; its [MERCHANT.query] is in the merchants' file.")
@click.option("--task", "tasks", multiple=True, help="This task; may be repeated.")
@click.option("--tasks", "more_tasks", type=_file, callback=_tasks, help="File of tasks, such as never called back.")
@click.option(
    "--since", callback=_since, metavar="TIME", help="Tasks of which anything came since; ISO, yesterday, 2h."
)
@click.option("--every", "every_s", callback=_every, metavar="TIME", help="Again and again until Ctrl-C: 6h, 1d.")
@click.option("--page-size", default=PAGE_SIZE, show_default="Blu's own, 10", type=click.IntRange(1, 1_000), help="Results a page; fewer pages if Blu allows it.")  # fmt: skip  # noqa: E501
@click.option("--rate", default=_RATE, show_default=True, type=click.FloatRange(0.1, 1_000), help="Calls a second.")
@click.option("--settle", "settle_s", default=60.0, show_default=True, type=click.FloatRange(0), help="Seconds to wait for storage to have what is in the topic; 0: do not look.")  # fmt: skip  # noqa: E501
@click.option("--merchants-file", envvar="RECEIVER_MERCHANTS_FILE", type=_file, help="By default that of --data.")
@click.option("--dry-run", is_flag=True, help="Compare, and publish nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="One JSON value a run on standard output.")
@with_places
def reconcile(
    *,
    merchant: str,
    tasks: tuple[str, ...],
    more_tasks: tuple[str, ...],
    since: Callable[[], datetime] | None,
    every_s: float | None,
    page_size: int,
    rate: float,
    settle_s: float,
    merchants_file: Path | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    places: Places,
) -> None:
    """Ask Blu's queryCallResult what it has of tasks, compare with storage, publish what never arrived.

    Missing is what storage has nothing of, for that task and record: it is published, source `reconcile`, after a
    confirm. Different results of a record are shown and never published, nor is what storage has and Blu has not.

    Exits with 1 where anything missing or different is left, 75 where Blu, Kafka or PostgreSQL is away.
    """
    if not (tasks or more_tasks or since):
        raise click.UsageError("which tasks? --task, --tasks FILE or --since")
    if every_s and not (yes or dry_run):
        raise click.UsageError("--every asks nobody: give --yes, or --dry-run")
    query, key = _query(merchants_file or places.merchants_file, merchant)
    asked = Asked(
        merchant, query, key, (*tasks, *more_tasks), page_size=page_size, rate=rate, settle_s=settle_s
    )  # fmt: skip
    run = _Run(places, asked, since, dry_run=dry_run, yes=yes, as_json=as_json)
    if every_s:
        run.again_and_again(every_s)
    else:
        sys.exit(0 if run.once().good else CHECK_FAILED)


def _query(path: Path | None, merchant: str) -> tuple[Query, str]:
    if path is None:
        raise click.UsageError("where are the merchants? --merchants-file, RECEIVER_MERCHANTS_FILE or --data")
    try:
        known = load_merchants(path).get(merchant)
        query = known and known.query
        if not query:
            raise click.UsageError(f"{path} has no [{merchant}.query] with url, app_id and app_key_file")
        return query, query.key()
    except MerchantsFileError as error:
        raise click.UsageError(f"{error}") from None
    except OSError as error:
        raise click.UsageError(f"the key's file cannot be read: {error.strerror}") from None


class _Run:
    def __init__(
        self,
        places: Places,
        asked: Asked,
        since: Callable[[], datetime] | None,
        *,
        dry_run: bool,
        yes: bool,
        as_json: bool,
    ) -> None:
        self._places, self._asked, self._since = places, asked, since
        self._dry_run, self._yes, self._as_json = dry_run, yes, as_json

    def once(self) -> Found:
        """Reconcile, and show what came of it. Ends the process with 75 where something is away."""
        found = run_or_later(_NAME, self._reconcile())
        self._show(found)
        return found

    def again_and_again(self, every_s: float) -> None:
        """Go on until Ctrl-C, which is a good end. What is away now is asked again the next time."""
        try:
            while True:
                due = datetime.now(UTC) + timedelta(seconds=every_s)
                self._one_of_many()
                time.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()))
        except KeyboardInterrupt:
            click.echo("reconcile: ended", err=True)

    def _one_of_many(self) -> None:
        """Leave one line of counts: it may end in a log."""
        try:
            found = run_now(self._reconcile())
        except NotNow as away:
            click.echo(f"reconcile: {away}", err=True)
        else:
            at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
            click.echo(json.dumps({"at": at, "merchant": found.merchant, "good": found.good, **found.totals()}))

    async def _reconcile(self) -> Found:
        asked = replace(self._asked, since=self._since and self._since())
        async with database(self._places.dsn()) as connection:
            found = await look(connection, self._places.kafka, asked, lambda line: click.echo(line, err=True))
            missing = found.totals()["missing"]
            if missing and not self._dry_run:
                self._confirm(missing)
                await publish(connection, self._places.kafka, asked, found)
            return found

    def _confirm(self, missing: int) -> None:
        if self._yes:
            return
        click.echo(f"{missing:,} results never arrived.", err=True)
        if self._as_json or not click.confirm("Publish them?", err=True):
            raise NotNow("not confirmed; nothing was done" + (" (--json asks nothing: give --yes)" * self._as_json))

    def _show(self, found: Found) -> None:
        if self._as_json:
            click.echo(json.dumps(_told(found), indent=2))
            return
        table = Table("task", "same", "missing", "different", "extra", "unreadable")
        uneven = [one for one in found.compared if sum(one.counts().values()) > one.same]
        for compared in uneven[:_SHOWN]:
            table.add_row(printable(compared.task_id), *(f"{count:,}" for count in compared.counts().values()))
        if uneven:
            Console().print(table)
        for task_id, why in list(found.refused.items())[:_SHOWN]:
            click.echo(f"task {printable(task_id)}: Blu refused: {why}")
        for compared in uneven[:_SHOWN]:
            _examples(compared.task_id, "different, Blu's", [event for event, _ in compared.different])
            _examples(compared.task_id, "extra", compared.extra)
        click.echo(", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in found.totals().items()))


def _examples(task_id: str, kind: str, events: list[str]) -> None:
    if events:
        more = f" and {len(events) - _SHOWN:,} more" if len(events) > _SHOWN else ""
        click.echo(f"task {printable(task_id)}, {kind}: {' '.join(events[:_SHOWN])}{more}")


def _told(found: Found) -> dict[str, Any]:
    tasks = [
        {
            "task_id": one.task_id,
            **one.counts(),
            "missing_events": [event.event_id for event in one.missing],
            "different_events": [{"blu": event, "storage": held} for event, held in one.different],
            "extra_events": one.extra,
        }
        for one in found.compared
    ]
    return {
        "merchant": found.merchant,
        "good": found.good,
        **found.totals(),
        "refused": found.refused,
        "by_task": tasks,
    }
