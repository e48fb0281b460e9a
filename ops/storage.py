"""`dial-results storage`: PostgreSQL's tables and views."""

from __future__ import annotations

import asyncio
import sys

import asyncpg
import click
from pydantic import ValidationError

from consumers.sinks.storage.migrate import migrate as bring_up_to_date
from consumers.sinks.storage.settings import Settings

TRY_AGAIN = 75


@click.group()
def storage() -> None:
    """PostgreSQL: the table of results and its views."""


@storage.command()
@click.option("--dry-run", is_flag=True, help="Print the SQL that would run, and change nothing.")
@click.option("--dsn", envvar="STORAGE_DSN", help="The database; STORAGE_DSN by default.")
def migrate(*, dry_run: bool, dsn: str | None) -> None:
    """Create the tables and views, or bring them up to date. Does nothing where they are."""
    try:
        settings = Settings(dsn=dsn) if dsn else Settings()
    except ValidationError as error:
        problems = "; ".join(problem["msg"] for problem in error.errors(include_input=False, include_url=False))
        raise click.UsageError(f"--dsn or STORAGE_DSN: {problems}") from None
    try:
        script = asyncio.run(bring_up_to_date(settings.dsn.get_secret_value(), dry_run=dry_run))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        click.echo(f"storage: the database did not do it, nothing is changed: {_said(error)}", err=True)
        sys.exit(TRY_AGAIN)
    if dry_run:
        click.echo(script or "-- nothing to do")
    else:
        click.echo("storage: tables and views are up to date" + ("" if script else " already"))


def _said(error: Exception) -> str:
    state = getattr(error, "sqlstate", None)
    return f"{error} (SQLSTATE {state})" if state else str(error) or type(error).__name__
