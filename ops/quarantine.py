"""`dial-results quarantine`: bodies that could not be read: look, mend by a rule, publish after all."""

from __future__ import annotations

import functools
import json
import sys
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from ops import audit
from ops.ending import NotNow, run_or_later
from ops.places import Places, database, with_places
from ops.printable import printable
from ops.publishing import results_topic
from ops.quarantining import work
from ops.quarantining.kept import Kept, Wanted, scan
from ops.quarantining.rules import Rule, RuleError, load_rule
from ops.quarantining.settled import alone, settled
from ops.times import TimeType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import asyncpg

    from ops.quarantining.kept import Place
    from ops.quarantining.work import Tried

CHECK_FAILED = 1
_NAME = "quarantine"


class PlaceType(click.ParamType[Any]):
    """A place in the quarantine: `2:17`, partition and offset."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:  # noqa: ANN401
        partition, _, offset = str(value).partition(":")
        if not (partition.isdecimal() and offset.isdecimal()):
            self.fail(f"{value!r} is no place; one is 2:17, partition and offset, as `list` shows", param, ctx)
        return int(partition), int(offset)


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the filters, as the argument `wanted`."""

    @click.argument("places_wanted", metavar="[PLACE]...", nargs=-1, type=PlaceType())
    @click.option("--since", type=TimeType(), help="Received at or after; ISO, yesterday, 2h.")
    @click.option("--until", type=TimeType(), help="Received before.")
    @click.option("--merchant", "merchants", multiple=True, help="Of this merchant; may be repeated, as the next two.")
    @click.option("--reason", "reasons", multiple=True, help="Quarantined for this reason.")
    @click.option("--id", "shapes", multiple=True, help="Of this group, by the id that `list` shows.")
    @functools.wraps(command)
    def wrapped(*args: Any, **given: Any) -> None:  # noqa: ANN401  # click's
        names = ("since", "until", "merchants", "reasons", "shapes")
        wanted = Wanted(**{name: given.pop(name) for name in names}, places=given.pop("places_wanted"))
        command(*args, wanted=wanted, **given)

    return wrapped


def _rule(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> Rule | None:
    try:
        return None if path is None else load_rule(path)
    except RuleError as error:
        raise click.BadParameter(str(error)) from None


_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_rules = click.option("--rules", "rule", type=_file, callback=_rule, help="Mend by this rule file first (TOML).")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON value on standard output.")


@click.group()
def quarantine() -> None:
    """Bodies that could not be read: look at them, mend them by a rule, publish them after all.

    Nothing of what they say is shown, but by `show --unmask` and `export`, which are audited.
    """


@quarantine.command("list", epilog="Example: dial-results quarantine list --since yesterday")
@_filters
@_json
@with_places
def list_(*, wanted: Wanted, as_json: bool, places: Places) -> None:
    """Group what is there by reason and shape; `open` is what was not resubmitted."""

    async def groups() -> list[dict[str, Any]]:
        async with database(places.dsn()) as connection:
            return await work.groups(places.kafka, wanted, await settled(connection))

    found = run_or_later(_NAME, groups())
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    table = Table("id", "reason", "bodies", "open", "merchants", "first", "last", "example", "shape")
    for group in found:
        names = ", ".join(sorted(group["merchants"]))
        numbers = (f"{group['bodies']:,}", f"{group['open']:,}")
        times = (group["first"], group["last"], group["example"])
        table.add_row(group["id"], group["reason"], *numbers, names, *times, group["shape"])
    Console().print(table)


@quarantine.command(epilog="Example: dial-results quarantine show 2:17")
@click.argument("place", type=PlaceType())
@click.option("--unmask", is_flag=True, help="Show what it says. There are people in it: it is audited.")
@_json
@with_places
def show(*, place: Place, unmask: bool, as_json: bool, places: Places) -> None:
    """Show the body at PLACE (partition:offset), masked."""

    async def one() -> dict[str, Any]:
        async with database(places.dsn()) as connection:
            kept = await _one(places, place)
            said = dict(work.described(kept, await settled(connection)))
            if unmask:
                await audit.record(connection, "quarantine show", {"place": said["place"], "unmask": True}, {})
                said["body"] = printable(kept.body.decode(errors="backslashreplace"))
            return said

    said = run_or_later(_NAME, one())
    if as_json:
        click.echo(json.dumps(said, indent=2))
        return
    for name, value in said.items():
        click.echo(f"{name}: {value}")


async def _one(places: Places, place: Place) -> Kept:
    async with aclosing(scan(places.kafka, Wanted(places=(place,)))) as found:
        async for kept in found:
            return kept
    raise click.UsageError(f"nothing stands at {place[0]}:{place[1]}")


@quarantine.command("try", epilog="Example: dial-results quarantine try --reason not-utf8 --rules gbk.toml")
@_filters
@_rules
@click.option("--limit", default=3, show_default=True, type=click.IntRange(0), help="So many outcomes are shown.")
@_json
@with_places
def try_(*, wanted: Wanted, rule: Rule | None, limit: int, as_json: bool, places: Places) -> None:
    """Decode with today's decoder, after the rule if there is one; show what would come of it, masked.

    Exits with 1 where a body cannot be read even so.
    """
    tried = run_or_later(_NAME, _tried(places, wanted, rule, limit))
    if as_json:
        click.echo(json.dumps(tried.told() | {"shown": tried.shown}, indent=2))
    else:
        for outcome in tried.shown:
            click.echo(f"{outcome['place']}:")
            for result in outcome["results"]:
                click.echo("  " + "\n  ".join(f"{name}: {printable(value)}" for name, value in result.items()))
        _say(tried)
    sys.exit(CHECK_FAILED if tried.unreadable else 0)


async def _tried(places: Places, wanted: Wanted, rule: Rule | None, limit: int) -> Tried:
    async with database(places.dsn()) as connection:
        return await work.attempt(places.kafka, wanted, await settled(connection), rule, show=limit)


def _say(tried: Tried) -> None:
    click.echo(
        f"{tried.readable:,} bodies can be read, with {tried.results:,} results; {tried.skipped:,} skipped: "
        f"resubmitted before; {tried.unreadable.total():,} cannot be read",
        err=True,
    )
    for reason, count in tried.unreadable.most_common():
        click.echo(f"  {reason} {count:,}", err=True)
    if tried.examples:
        click.echo(f"  for example at {', '.join(tried.examples[:5])}", err=True)


@quarantine.command(epilog="Example: dial-results quarantine resubmit --reason not-utf8 --rules gbk.toml")
@_filters
@_rules
@click.option("--dry-run", is_flag=True, help="Count, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_json
@with_places
def resubmit(
    *, wanted: Wanted, rule: Rule | None, dry_run: bool, yes: bool, as_json: bool, places: Places
) -> None:  # fmt: skip
    """Publish what can be read after all, as if it had been readable at once.

    The results have the receive time of their body, and the event ids that they would have had. What is resubmitted is
    remembered and skipped from then on. Exits with 1 where a body stays unreadable, 75 where it was not confirmed.
    """
    asked = _Asked(wanted, rule, dry_run=dry_run, yes=yes, as_json=as_json)
    said = run_or_later(_NAME, _resubmit(places, asked))
    if as_json:
        click.echo(json.dumps(said, indent=2))
    elif not dry_run:
        click.echo(f"{said['published']:,} bodies resubmitted, {said['published_results']:,} results published")
    sys.exit(CHECK_FAILED if said["still_unreadable"] or said["too_large"] else 0)


class _Asked:
    """What the operator wants of a resubmit."""

    def __init__(self, wanted: Wanted, rule: Rule | None, *, dry_run: bool, yes: bool, as_json: bool) -> None:
        self.wanted, self.rule, self.dry_run, self._yes, self._as_json = wanted, rule, dry_run, yes, as_json

    def confirm(self) -> None:
        """Ask. Raises NotNow."""
        if not self._yes and (self._as_json or not click.confirm("Resubmit them?", err=True)):
            raise NotNow("not confirmed; nothing was done" + (" (--json asks nothing: give --yes)" * self._as_json))

    def for_audit(self) -> dict[str, Any]:
        """Return what was asked for. Of a rule only what it is about and which steps it has."""
        rule = self.rule and {"about": self.rule.about, "encoding": self.rule.encoding, "steps": len(self.rule.replace)}
        return self.wanted.for_audit() | {"rule": rule}


async def _resubmit(places: Places, asked: _Asked) -> dict[str, Any]:
    async with _alone(places) as connection:
        tried = await work.attempt(places.kafka, asked.wanted, await settled(connection), asked.rule)
        _say(tried)
        said = tried.told() | {"published": 0, "published_results": 0, "too_large": 0}
        if asked.dry_run or not tried.readable:
            return said
        asked.confirm()
        async with results_topic(places.kafka) as topic:
            entry = await audit.record(connection, "quarantine resubmit", asked.for_audit(), tried.counts())
            async for counts in work.resubmit(places.kafka, tried, asked.rule, topic, connection, f"{entry}"):
                said |= {
                    "published": counts["published"],
                    "published_results": counts["results"],
                    "too_large": counts["too_large"],
                }
                click.echo(f"{counts['published']:,} of {tried.readable:,}", err=True)
        return said


@asynccontextmanager
async def _alone(places: Places) -> AsyncIterator[asyncpg.Connection]:
    async with database(places.dsn()) as connection, alone(connection):
        yield connection


@quarantine.command(epilog="Example: dial-results quarantine export --id 3f6c01ab --to ./bodies")
@_filters
@click.option("--to", "folder", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder.")
@_json
@with_places
def export(*, wanted: Wanted, folder: Path, as_json: bool, places: Places) -> None:
    """Write bodies, byte for byte, to files in a folder: PARTITION-OFFSET.body, mode 0600. Audited.

    There are people in them: delete the files when you are done.
    """

    async def written() -> int:
        async with database(places.dsn()) as connection:
            await audit.record(connection, "quarantine export", wanted.for_audit(), {})
            count = 0
            async for kept in scan(places.kafka, wanted):
                _write(folder, kept)
                count += 1
            return count

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"--to: {error.strerror}") from None
    count = run_or_later(_NAME, written())
    click.echo(json.dumps({"files": count, "folder": f"{folder}"}) if as_json else f"{count:,} files in {folder}")


def _write(folder: Path, kept: Kept) -> None:
    try:
        work.write(folder, kept)
    except OSError as error:
        name = f"{kept.partition}-{kept.offset}.body"
        raise click.ClickException(f"{folder}: {error.strerror}: {name}") from None
