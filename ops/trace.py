"""`dial-results trace`: every hop of one result."""

from __future__ import annotations

import json
import sys
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from ops.ending import run_or_later
from ops.places import Places, database, with_places
from ops.reporting.hops import hops, kafka, known, searched
from ops.times import TimeType

if TYPE_CHECKING:
    from schemas.event import DialResult

CHECK_FAILED = 1
_NAME = "trace"


@click.command(epilog="Example: dial-results trace --event-id 39500fbc-16af-8f87-8a6c-2f630f4ee2d5")
@click.option("--event-id", type=click.UUID, help="This one result.")
@click.option("--record-id", help="The latest results of this contact.")
@click.option("--merchant", help="Whose contact; by default of any merchant.")
@click.option("--since", type=TimeType(), help="Where storage does not know it: look through the topic from then; 2h ago by default.")  # fmt: skip  # noqa: E501
@click.option("--json", "as_json", is_flag=True, help="An array of objects on standard output.")
@with_places
def trace(
    *,
    event_id: uuid.UUID | None,
    record_id: str | None,
    merchant: str | None,
    since: datetime | None,
    as_json: bool,
    places: Places,
) -> None:
    """Show where one result came and what became of it, in every sink. Nothing of what it says is shown.

    Exits with 1 where nobody knows it, 75 where Kafka or PostgreSQL is away. Times are UTC.
    """
    if (event_id is None) == (record_id is None):
        raise click.UsageError("give either --event-id or --record-id")
    wanted = str(event_id) if event_id else None
    found = run_or_later(_NAME, _traced(places, wanted, merchant, record_id, since))
    if as_json:
        click.echo(json.dumps(found))
    else:
        _show(found)
    sys.exit(0 if found else CHECK_FAILED)


async def _traced(
    places: Places, event_id: str | None, merchant: str | None, record_id: str | None, since: datetime | None
) -> list[dict[str, Any]]:
    def fits(one: DialResult) -> bool:
        if event_id:
            return one.event_id == event_id
        return one.record_id == record_id and merchant in (None, one.merchant)

    async with database(places.dsn()) as connection:
        found = await known(connection, event_id, merchant, record_id)
        if not found:
            begin = since or datetime.now(UTC) - timedelta(hours=2)
            click.echo(f"trace: storage does not know it; looking through the topic from {begin:%Y-%m-%d %H:%M} on", err=True)  # fmt: skip  # noqa: E501
            found = await searched(places.kafka, begin, fits)
        if not found:
            return []
        async with kafka(places.kafka) as opened:
            return [
                {"event_id": one.event_id, "hops": await hops(connection, opened, places.analytics_uri, one)}
                for one in found
            ]


def _show(found: list[dict[str, Any]]) -> None:
    if not found:
        click.echo("trace: nobody knows it", err=True)
    for one in found:
        click.echo(f"event {one['event_id']}")
        for hop in one["hops"]:
            click.echo(f"  {hop['at'] or '':<29}  {hop['where']:<13} {hop['what']}")
