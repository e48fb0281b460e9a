"""`dial-results redrive`: a consumer's dead letters, seen by reason, given to it again, or purged."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import click
import orjson

from ops.places import Places, with_places
from ops.redriving.letters import Chosen
from ops.redriving.session import Desk, desk
from ops.replaying.filters import Filters
from ops.replaying.guard import guarded
from ops.times import TimeType

DONE, CHECK_FAILED, TRY_LATER = 0, 1, 75


@click.command(epilog="Example: dial-results redrive crm --reason crm-INVALID_EMAIL --since 2d")
@click.argument("consumer")
@click.option("--reason", "reasons", multiple=True, help="Refused for this; may be given several times, as all below.")
@click.option("--merchant", "merchants", multiple=True, help="Of this merchant.")
@click.option("--task", "tasks", multiple=True, help="Of this task.")
@click.option("--record", "records", multiple=True, help="Of this record id.")
@click.option("--conclusion", "conclusions", multiple=True, help="With this conclusion code.")
@click.option("--event-id", "event_ids", multiple=True, help="This result.")
@click.option("--since", type=TimeType(), help="Received at or after: ISO (UTC by default), yesterday, 2h.")
@click.option("--until", type=TimeType(), help="Received before.")
@click.option("--list", "only_list", is_flag=True, help="Show what waits, by reason, and end.")
@click.option("--show", metavar="EVENT_ID|PARTITION:OFFSET", help="Show one, personal data masked, and end.")
@click.option("--unmask", is_flag=True, help="With --show: as it is. Who looked is written to the audit.")
@click.option("--purge", is_flag=True, help="Give up those received before --until, instead of redriving them.")
@click.option("--limit", type=click.IntRange(1), help="Redrive so many at most: try with one first.")
@click.option("--rate", type=click.IntRange(0), default=500, show_default=True, help="Records a second; 0: no limit.")
@click.option("--dry-run", is_flag=True, help="Count, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output; asks nothing: give --yes.")
@with_places
def redrive(
    consumer: str,
    *,
    reasons: tuple[str, ...],
    only_list: bool,
    show: str | None,
    unmask: bool,
    purge: bool,
    limit: int | None,
    rate: int,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    places: Places,
    **asked: Any,  # noqa: ANN401  # click's: the filters
) -> None:
    """Give CONSUMER's dead letters to it again, when what refused them is mended.

    Shows those that wait by reason, asks, and sends them to the consumer's replay topic. Each is redriven once: what
    became of it is remembered. One that is refused again comes back as a new dead letter.

    Exit codes: 0 done; 1 --show finds none; 2 usage; 75 try again later, or not confirmed.
    """
    chosen = Chosen(_filters(**asked), reasons)
    if purge and chosen.filters.until is None:
        raise click.UsageError("--purge: by age; give --until, such as --until 14d")
    only_look = bool(only_list or dry_run or show)
    if as_json and not (yes or only_look):
        raise click.UsageError("--json asks nothing: give --yes, --dry-run or --list")
    if show:
        sys.exit(guarded(_show(places, consumer, show, unmask=unmask)))
    ask = Ask(purge=purge, limit=limit, rate=rate, only_look=only_look, yes=yes, as_json=as_json)
    sys.exit(guarded(_deal(places, consumer, chosen, ask)))


class Ask:
    """What is to be done with those that are meant, and whether it was asked for twice."""

    def __init__(self, *, purge: bool, limit: int | None, rate: int, only_look: bool, yes: bool, as_json: bool) -> None:
        self.purge = purge
        self.limit = limit
        self.rate = rate
        self.only_look = only_look
        self.yes = yes
        self.as_json = as_json

    def confirmed(self, waiting: int, consumer: str) -> bool:
        """Ask a person, unless they said so before."""
        count = waiting if self.limit is None else min(waiting, self.limit)
        what = f"Purge {count:,} for good?" if self.purge else f"Redrive {count:,} to {consumer}?"
        return self.yes or click.confirm(what, err=True)


def _filters(since: datetime | None, until: datetime | None, **several: tuple[str, ...]) -> Filters:
    return Filters(since, until, **several)


async def _show(places: Places, consumer: str, which: str, *, unmask: bool) -> int:
    async with desk(places, consumer) as opened:
        letter = await opened.find(which)
        if letter is None:
            click.echo(f"redrive: there is no dead letter {which}", err=True)
            return CHECK_FAILED
        said = await opened.show(letter, unmask=unmask)
    click.echo(orjson.dumps(said, option=orjson.OPT_INDENT_2))
    return DONE


async def _deal(places: Places, consumer: str, chosen: Chosen, ask: Ask) -> int:
    async with desk(places, consumer) as opened:
        groups = await opened.groups(chosen)
        said: dict[str, Any] = {"waiting": groups.waiting, "settled": groups.settled, "reasons": groups.told()}
        if not ask.as_json:
            _print(said)
        if groups.waiting and not ask.only_look:
            if not ask.confirmed(groups.waiting, consumer):
                return TRY_LATER
            said |= await _done(opened, chosen, ask)
    click.echo(orjson.dumps(said) if ask.as_json else _last(said))
    return DONE


async def _done(opened: Desk, chosen: Chosen, ask: Ask) -> dict[str, int]:
    if ask.purge:
        return {"purged": await opened.purge(chosen)}
    return {"redriven": await opened.redrive(chosen, ask.limit, ask.rate)}


def _print(said: dict[str, Any]) -> None:
    click.echo(f"{said['waiting']:,} wait, {said['settled']:,} are redriven or purged already")
    for group in said["reasons"]:
        versions = ", ".join(group["versions"])
        click.echo(
            f"  {group['records']:>8,}  {group['reason']}  {group['contacts']:,} contacts, by version {versions}"
        )


def _last(said: dict[str, Any]) -> str:
    return next((f"{said[name]:,} {name}" for name in ("redriven", "purged") if name in said), "nothing was changed")
