"""`dial-results query`: ask the analytics table, by SQL or by a ready report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from deltalake.exceptions import DeltaError, TableNotFoundError

from ops.analytics import answer, plot, reports
from ops.standalone.folder import default_folder, read_up
from ops.times import TimeType

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

USAGE, TRY_LATER = 2, 75
_READS = ("select", "with", "describe")  # `COPY ... TO` writes files, also behind `EXPLAIN ANALYZE`
_ROWS = 1_000


def _options(_context: click.Context, _parameter: click.Parameter, text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise click.BadParameter('it is a JSON object, such as {"AWS_REGION": "eu-west-1"}')
    return {str(name): str(value) for name, value in found.items()}


@click.command(epilog="Example: dial-results query --report contact-rate --since 7d --plot rate.html")
@click.argument("sql", required=False)
@click.option("--report", type=click.Choice(list(reports.REPORTS)), help="A ready report instead of SQL.")
@click.option("--since", type=TimeType(), help="Report: received at or after; ISO, yesterday, 2h.")
@click.option("--until", type=TimeType(), help="Report: received before.")
@click.option("--merchant", help="Report: of this merchant alone.")
@click.option("--task", help="Report: of this task alone.")
@click.option("--show-sql", is_flag=True, help="Print the SQL and run nothing.")
@click.option("--json", "as_json", is_flag=True, help="An array of objects.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated, with a line of names.")
@click.option("--limit", type=click.IntRange(0), default=_ROWS, show_default=True, help="Rows at most; 0: all.")
@click.option("--plot", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write .png, .svg or .html too.")
@click.option("--uri", envvar="ANALYTICS_URI", help="The table; ANALYTICS_URI, else that of --data.")
@click.option(
    "--storage-options",
    envvar="ANALYTICS_STORAGE_OPTIONS",
    default="{}",
    callback=_options,
    help="JSON for S3; ANALYTICS_STORAGE_OPTIONS by default.",
)
@click.option("--data", type=click.Path(path_type=Path), default=default_folder, show_default="as `up`", help="Folder of an `up`: its table.")  # fmt: skip  # noqa: E501
def query(
    *,
    sql: str | None,
    report: str | None,
    since: datetime | None,
    until: datetime | None,
    merchant: str | None,
    task: str | None,
    show_sql: bool,
    as_json: bool,
    as_csv: bool,
    limit: int,
    file: Path | None,
    uri: str | None,
    storage_options: dict[str, str],
    data: Path,
) -> None:
    """Ask the analytics table, which SQL calls `results`. It is only read.

    Its columns are in docs/analytics.md. Name `date` in every condition: the table is parted by it.
    """
    if (sql is None) == (report is None):
        raise click.UsageError("give either SQL or --report")
    if report is None and any((since, until, merchant, task, file)):
        raise click.UsageError("--since, --until, --merchant, --task and --plot belong to --report")
    if as_json and as_csv:
        raise click.UsageError("either --json or --csv")
    if file and file.suffix not in plot.FORMATS:
        raise click.UsageError(f"--plot: a file that ends in {', '.join(plot.FORMATS)}")
    text = reports.sql(report, reports.Asked(since, until, merchant, task)) if report else _only_read(sql or "")
    if show_sql:
        click.echo(text)
        return
    found = _ask(uri or _uri_of(data), storage_options, text, limit)
    if file and report:
        _plot(report, found, file)
    if as_json:
        answer.print_json(found)
    elif as_csv:
        answer.write_csv(found, sys.stdout)
    else:
        answer.print_table(found, reports.REPORTS[report].title if report else "")
    if not found.is_whole:
        click.echo(f"query: there are more than {limit} rows; --limit 0 gives all", err=True)


def _only_read(sql: str) -> str:
    words = sql.split(maxsplit=1)
    if not words or words[0].lower() not in _READS:
        raise click.UsageError(f"SQL that begins with one of {', '.join(_READS)}: the table is only read here")
    return sql


def _uri_of(data: Path) -> str:
    known = read_up(data)
    if known is None:
        _later(f"nothing is known of {data}: name the table by --uri or ANALYTICS_URI, or a running `up` by --data")
    return str(known["analytics_uri"])


def _ask(uri: str, options: Mapping[str, str], sql: str, limit: int) -> answer.Answer:
    try:
        return answer.ask(uri, options, sql, limit)
    except TableNotFoundError:
        _later("there is no table yet: the analytics consumer makes it at its first start")
    except OSError as error:
        _later(f"the storage is away: {error}")
    except DeltaError as error:
        raise click.UsageError(f"{error}; the table is called results, `DESCRIBE results` shows its columns") from None


def _plot(report: str, found: answer.Answer, file: Path) -> None:
    try:
        plot.plot(reports.REPORTS[report], found, file)
    except ImportError:
        raise click.UsageError("--plot needs matplotlib: pip install 'dial-results[plots]'") from None
    except OSError as error:
        raise click.UsageError(f"--plot: {error}") from None
    click.echo(f"query: wrote {file}", err=True)


def _later(message: str) -> NoReturn:
    click.echo(f"query: {message}", err=True)
    sys.exit(TRY_LATER)
