"""`dial-results erase`: one contact is forgotten by every sink, and left out from then on."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from ops.ending import NotNow, run_or_later
from ops.erasing.session import Receipt, ask, counts, receipts
from ops.places import Places, database, with_places
from schemas.topics import CONSUMERS, RETENTION_MS

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECK_FAILED, TRY_LATER = 1, 75
_NAME = "erase"
_DAYS = RETENTION_MS // 86_400_000
STAYS = (
    f"Kafka: dial-results, its replay, dead-letter and quarantine topics keep it for {_DAYS} days from its receipt",
    "Kafka: dial-results.erased keeps the contact's id, so that nobody brings it back",
    "receivers' journals: a published callback goes within 15 minutes; one that still waits is published, and left out",
    "subscribers: each team erases its own copies; who keeps any longer than the topic follows dial-results.erased",
    "backups and the database's write-ahead log: by their own retention",
)


def _merchant(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    if not name or ":" in name:
        raise click.BadParameter("a merchant's name has no colon")
    return name


@click.command(epilog="Example: dial-results erase --merchant acme --record-id 55667448 --yes")
@click.option("--merchant", required=True, callback=_merchant, help="Whose contact.")
@click.option("--record-id", required=True, help="The contact's record, Blu's `id`, exactly as it is written there.")
@click.option("--dry-run", is_flag=True, help="Count, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--wait", "wait_s", default=60.0, show_default=True, type=click.FloatRange(0), help="Seconds to wait for the receipts.")  # fmt: skip  # noqa: E501
@click.option("--consumer", "consumers", multiple=True, help="Whose receipts to wait for; by default storage, analytics and crm.")  # fmt: skip  # noqa: E501
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@with_places
def erase(
    *,
    merchant: str,
    record_id: str,
    dry_run: bool,
    yes: bool,
    wait_s: float,
    consumers: tuple[str, ...],
    as_json: bool,
    places: Places,
) -> None:
    """Erase one contact in every sink; live or replayed, no consumer brings it back.

    It cannot be undone. Counts first, and asks. Each consumer erases in its own sink and leaves a receipt in
    ops.erasure_receipt; one that is down does so before its first write after its start.

    Exits with 1 where a sink could not erase all of it (the receipt says what), 75 where receipts are missing (the
    erasure stands: run it again to see whether they came), it was not confirmed, or Kafka or PostgreSQL is away.
    """
    run = _Run(places, merchant, record_id, as_json=as_json)
    wanted = consumers or CONSUMERS
    sys.exit(run_or_later(_NAME, run.all(wanted, wait_s, dry_run=dry_run, yes=yes)))


class _Run:
    def __init__(self, places: Places, merchant: str, record_id: str, *, as_json: bool) -> None:
        self._places = places
        self._merchant = merchant
        self._record_id = record_id
        self._as_json = as_json

    async def all(self, wanted: tuple[str, ...], wait_s: float, *, dry_run: bool, yes: bool) -> int:
        """Return the exit code."""
        async with database(self._places.dsn()) as connection:
            found = await counts(connection, self._places, self._merchant, self._record_id)
            self._show_counts(found)
            if dry_run:
                self._print({"counts": found, "dry_run": True})
                return 0
            if not yes:
                self._confirm()
            one = await ask(connection, self._places.kafka, self._merchant, self._record_id, found)
            left = await receipts(connection, one, wanted, wait_s)
        missing = sorted(set(wanted) - {each.consumer for each in left})
        self._show(left, missing)
        said = {"erasure_id": one.erasure_id, "counts": found, "receipts": [_plain(each) for each in left]}
        self._print(said | {"missing": missing, "stays": STAYS})
        if missing:
            return TRY_LATER
        return CHECK_FAILED if any(each.remains for each in left) else 0

    def _confirm(self) -> None:
        if self._as_json or not click.confirm("Erase it? This cannot be undone", err=True):
            raise NotNow("not confirmed; nothing was done" + (" (--json asks nothing: give --yes)" * self._as_json))

    def _show_counts(self, found: Mapping[str, int]) -> None:
        if self._as_json:
            return
        rows = "not to be counted from here" if found["analytics_rows"] < 0 else f"{found['analytics_rows']} rows"
        click.echo(f"storage    {found['storage_rows']} rows")
        click.echo(f"analytics  {rows}")
        click.echo(f"crm        {found['crm_ledger_rows']} rows of the ledger, and the contact")
        if found["erased_before"]:
            click.echo(f"It was erased {found['erased_before']} times before.")

    def _show(self, left: list[Receipt], missing: list[str]) -> None:
        if self._as_json:
            return
        for each in left:
            remains = f"; remains: {each.remains}" if each.remains else ""
            click.echo(f"{each.consumer:<10} erased at {each.erased_at.isoformat(timespec='seconds')}{remains}")
        for name in missing:
            click.echo(f"{name:<10} no receipt yet: it erases when it runs, before its next write", err=True)
        click.echo("What stays elsewhere:")
        for line in STAYS:
            click.echo(f"- {line}")

    def _print(self, said: Mapping[str, Any]) -> None:
        if self._as_json:
            click.echo(json.dumps({"merchant": self._merchant, "record_id": self._record_id} | dict(said), default=str))


def _plain(each: Receipt) -> dict[str, Any]:
    return {"consumer": each.consumer, "erased_at": each.erased_at.isoformat(), "remains": each.remains}
