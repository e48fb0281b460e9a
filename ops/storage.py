"""`dial-results storage`: PostgreSQL's tables and views, who may read them, and how long results stay."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import click
from pydantic import ValidationError

from consumers.sinks.storage import retention, roles
from consumers.sinks.storage.migrate import migrate as bring_up_to_date
from consumers.sinks.storage.settings import Settings
from ops.times import TimeType
from schemas.topics import RETENTION_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHECK_FAILED, TRY_AGAIN = 1, 75


def _dsn(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    if not value:
        raise click.UsageError(
            "which database? STORAGE_DSN or --dsn names it: postgresql://user:password@host:port/name"
        )
    try:
        settings = Settings(dsn=value)
    except ValidationError as error:
        problems = "; ".join(problem["msg"] for problem in error.errors(include_input=False, include_url=False))
        raise click.UsageError(f"--dsn or STORAGE_DSN: {problems}") from None
    return settings.dsn.get_secret_value()


def _takes_dsn(command: Callable[..., None]) -> Callable[..., None]:
    says = "The database; STORAGE_DSN by default."
    return click.option("--dsn", envvar="STORAGE_DSN", callback=_dsn, help=says)(command)


_json = click.option("--json", "as_json", is_flag=True, help="Say it as one JSON object.")


@click.group()
def storage() -> None:
    """PostgreSQL: the table of results, its views, its readers, and how long results stay."""


@storage.command()
@click.option("--dry-run", is_flag=True, help="Print the SQL that would run, and change nothing.")
@_json
@_takes_dsn
def migrate(*, dry_run: bool, as_json: bool, dsn: str) -> None:
    """Create the tables and views, or bring them up to date. Does nothing where they are.

    Example: dial-results storage migrate --dry-run
    """
    with _database("nothing is changed"):
        script = asyncio.run(bring_up_to_date(dsn, dry_run=dry_run))
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "changed": bool(script) and not dry_run, "sql": script}))
    elif dry_run:
        click.echo(script or "-- nothing to do")
    else:
        click.echo("storage: tables and views are up to date" + ("" if script else " already"))


@storage.command("roles")
@click.option("--dry-run", is_flag=True, help="Print the SQL that would run, and change nothing.")
@_json
@_takes_dsn
def roles_command(*, dry_run: bool, as_json: bool, dsn: str) -> None:
    """Create the group roles for writers and readers, and grant what each may do; after every migration.

    Example: dial-results storage roles --dry-run

    Who may read is then said in psql: GRANT dial_results_reader_masked TO anna
    """
    names = [roles.WRITER, roles.READER, roles.MASKED_READER]
    if dry_run:
        click.echo(json.dumps({"dry_run": True, "roles": names, "sql": roles.sql()}) if as_json else roles.sql())
        return
    try:
        with _database("nothing is changed"):
            asyncio.run(roles.grant(dsn))
    except roles.NotMigrated:
        click.echo("storage: the views are not there yet: run `dial-results storage migrate` first", err=True)
        sys.exit(CHECK_FAILED)
    told = {"dry_run": False, "roles": names, "sql": roles.sql()}
    click.echo(json.dumps(told) if as_json else f"storage: {', '.join(names)} may do what they should")


@storage.command()
@click.option("--older-than", type=TimeType(), required=True, help="Such as 400d: results received before that go.")
@click.option("--dry-run", is_flag=True, help="Count them, and delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask; for cron.")
@click.option("--batch", type=click.IntRange(1, 100_000), default=5_000, show_default=True, help="Rows a transaction.")
@_json
@_takes_dsn
def retain(*, older_than: datetime, dry_run: bool, yes: bool, batch: int, as_json: bool, dsn: str) -> None:
    """Delete results received before a time. Can be stopped and started again at any moment.

    Example, for cron: dial-results storage retain --older-than 400d --yes
    """
    if older_than > datetime.now(UTC) - timedelta(milliseconds=RETENTION_MS):
        raise click.UsageError(
            f"Kafka keeps results for {timedelta(milliseconds=RETENTION_MS).days} days: a replay would bring them back"
        )
    said = asyncio.run(_retain(dsn, older_than, batch, dry_run=dry_run, yes=yes, quiet=as_json))
    if as_json:
        click.echo(json.dumps(said))
    else:
        click.echo(f"storage: {said['found']} results before {older_than:%Y-%m-%d %H:%M %Z}, {said['deleted']} deleted")


async def _retain(dsn: str, before: datetime, batch: int, *, dry_run: bool, yes: bool, quiet: bool) -> dict[str, Any]:
    deleted = 0
    with _database("run it again, what is deleted stays deleted"):
        async with retention.connected(dsn) as connection:
            old = await retention.count(connection, before)
            if old.rows and not dry_run:
                if not yes:
                    click.confirm(
                        f"Delete {old.rows} results, the oldest of {old.oldest:%Y-%m-%d}?", abort=True, err=True
                    )
                async for gone in retention.delete(connection, before, batch):
                    deleted += gone
                    if not quiet:
                        click.echo(f"storage: {deleted} of {old.rows}", err=True)
    return {"before": before.isoformat(), "found": old.rows, "deleted": deleted, "dry_run": dry_run}


@contextmanager
def _database(what_now: str) -> Iterator[None]:
    try:
        yield
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        click.echo(f"storage: the database did not do it, {what_now}: {_said(error)}", err=True)
        sys.exit(TRY_AGAIN)


def _said(error: Exception) -> str:
    state = getattr(error, "sqlstate", None)
    return f"{error} (SQLSTATE {state})" if state else str(error) or type(error).__name__
