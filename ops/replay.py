"""`dial-results replay`: give results again to one consumer, or to a topic of another team, as a job."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
import orjson

from ops.places import Places, database, with_places
from ops.replaying import jobs, session
from ops.replaying.filters import Filters
from ops.replaying.guard import guarded
from ops.replaying.show import Show
from ops.times import TimeType

if TYPE_CHECKING:
    from ops.replaying.jobs import Job

DONE, TRY_LATER, ON_PURPOSE = 0, 75, 78

_json = click.option("--json", "as_json", is_flag=True, help="JSON on standard output; asks nothing: give --yes.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group(
    invoke_without_command=True,
    epilog="Example: dial-results replay --to crm --since yesterday --merchant acme --conclusion HPTP --dry-run",
)
@click.option("--to", metavar="CONSUMER|TOPIC", help="Whom to give them again: a consumer, or a topic of yours.")
@click.option("--since", type=TimeType(), help="Received at or after: ISO (UTC by default), yesterday, 2h.")
@click.option("--until", type=TimeType(), help="Received before.")
@click.option("--merchant", "merchants", multiple=True, help="Of this merchant; may be given several times, as all below.")  # fmt: skip  # noqa: E501
@click.option("--task", "tasks", multiple=True, help="Of this task.")
@click.option("--record", "records", multiple=True, help="Of this record id.")
@click.option("--conclusion", "conclusions", multiple=True, help="With this conclusion code (reads the content).")
@click.option("--event-id", "event_ids", multiple=True, help="This result.")
@click.option("--source", type=click.Choice([jobs.TOPIC, jobs.STORAGE]), default=jobs.TOPIC, show_default=True, help="storage: from PostgreSQL, for what the topic no longer has.")  # fmt: skip  # noqa: E501
@click.option("--rate", type=click.IntRange(0), default=5_000, show_default=True, help="Records a second; 0: no limit.")
@click.option("--quick", is_flag=True, help="Count by offsets alone: no contacts, and not what would be skipped.")
@click.option("--dry-run", is_flag=True, help="Count, and do nothing.")
@_yes
@_json
@with_places
@click.pass_context
def replay(
    context: click.Context,
    /,
    *,
    to: str | None,
    source: str,
    rate: int,
    quick: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    places: Places,
    **asked: Any,  # noqa: ANN401  # click's: the filters
) -> None:
    """Give results again to one consumer, or to a topic of another team.

    Counts first and asks; then copies, as a job that can be paused, and resumed whatever ended it. Replayed records go
    to the consumer's own replay topic: nobody else sees them, live results go first, and no effect is repeated.

    Exit codes: 0 done; 2 usage; 75 try again later, or not confirmed; 78 paused or cancelled.
    """
    if context.invoked_subcommand:
        return
    if to is None:
        raise click.UsageError("--to: whom? A consumer, or a topic of yours")
    filters = _filters(**asked)
    if (as_json and not (yes or dry_run)) or (filters.since and filters.until and filters.since >= filters.until):
        raise click.UsageError("--json asks nothing: give --yes or --dry-run" if as_json else "--since is not before --until")  # fmt: skip  # noqa: E501
    job = jobs.new(source, to, None, filters, rate)
    _ended(guarded(session.create(places, job, quick=quick, dry_run=dry_run, yes=yes, show=Show(as_json=as_json))))


@replay.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="So many of the newest.")
@_json
@with_places
def list_(limit: int, as_json: bool, places: Places) -> None:
    """Show the newest jobs. Example: dial-results replay list --json."""
    found = guarded(_read(places, lambda connection: jobs.latest(connection, limit)))
    if as_json:
        click.echo(orjson.dumps([job.told() for job in found]))
        return
    for job in found:
        click.echo(f"{job.id}  {job.state:<11}  {job.sent:>10,} of {_expected(job)}  {job.source} to {job.target}  {job.who}")  # fmt: skip  # noqa: E501


@replay.command()
@click.argument("job_id", metavar="JOB")
@_json
@with_places
def show(job_id: str, as_json: bool, places: Places) -> None:
    """Show one job. Example: dial-results replay show 20261124-031415-9f2c."""
    Show(as_json=as_json).job(guarded(_read(places, lambda connection: jobs.get(connection, job_id))))


@replay.command()
@click.argument("job_id", metavar="JOB")
@_json
@with_places
def pause(job_id: str, as_json: bool, places: Places) -> None:
    """Stop a job, to be resumed. Example: dial-results replay pause 20261124-031415-9f2c."""
    _asked(job_id, guarded(session.ask(places, job_id, jobs.PAUSE)), as_json=as_json)


@replay.command()
@click.argument("job_id", metavar="JOB")
@_yes
@_json
@with_places
def cancel(job_id: str, yes: bool, as_json: bool, places: Places) -> None:
    """Stop a job for good; what was copied stays copied. Example: dial-results replay cancel 20261124-031415-9f2c."""
    if not yes and not click.confirm(f"Cancel {job_id} for good?", err=True):
        sys.exit(TRY_LATER)
    _asked(job_id, guarded(session.ask(places, job_id, jobs.CANCEL)), as_json=as_json)


@replay.command()
@click.argument("job_id", metavar="JOB")
@click.option("--rate", type=click.IntRange(0), help="Another rate than before.")
@_json
@with_places
def resume(job_id: str, rate: int | None, as_json: bool, places: Places) -> None:
    """Go on with a job that was paused or interrupted. Example: dial-results replay resume 20261124-031415-9f2c.

    What was copied within the last second before it was killed is copied again, which has no effect twice.
    """
    _ended(guarded(session.resume(places, job_id, rate, Show(as_json=as_json))))


def _asked(job_id: str, state: str, *, as_json: bool) -> None:
    click.echo(orjson.dumps({"id": job_id, "state": state}) if as_json else f"{job_id} is {state}")


def _filters(since: datetime | None, until: datetime | None, **several: tuple[str, ...]) -> Filters:
    return Filters(since, until, **several)


def _ended(state: str | None) -> None:
    sys.exit({None: TRY_LATER, jobs.DONE: DONE}.get(state, ON_PURPOSE))


async def _read(places: Places, query: Any) -> Any:  # noqa: ANN401
    async with database(places.dsn()) as connection:
        return await query(connection)


def _expected(job: Job) -> str:
    count = job.expected.get("records")
    return f"at most {job.expected['at_most']:,}" if count is None else f"{count:,}"
