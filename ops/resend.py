"""`dial-results journal resend PATH`: send again what a journal still holds of what is published."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from ops.kafka import client_options
from ops.sending import (
    CHECK_FAILED,
    DONE,
    TRY_LATER,
    NothingMore,
    StandsStill,
    became,
    log_to_standard_error,
    send_all,
)
from ops.times import TimeType
from receiver.counts import PublishCounts
from receiver.journal import Choice, Retained
from receiver.journal.retained import take
from schemas.topics import RESENT
from schemas.wire import timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.journal import JournaledCallback


class Resending:
    """The chosen callbacks, once, as a publisher reads them. The journal's own mark is not touched."""

    def __init__(self, retained: Retained, count: int) -> None:
        self._callbacks = iter(retained)
        self._next: list[JournaledCallback] = []
        self._handed_out = 0
        self._count = count
        self.published = 0

    @property
    def waiting(self) -> int:
        return max(0, self._count - self._handed_out)

    async def wait(self, _after: int) -> None:
        """Return when the next one is read. Raises NothingMore."""
        self._next = await asyncio.to_thread(take, self._callbacks, 1, 1)
        if not self._next:
            raise NothingMore

    def read(self, _after: int, max_callbacks: int, max_bytes: int) -> list[JournaledCallback]:
        """Return that one and those behind it."""
        callbacks = self._next + take(self._callbacks, max_callbacks - 1, max_bytes)
        self._handed_out += len(callbacks)
        return callbacks

    def mark_published(self, sequence: int) -> None:
        self.published = sequence


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--since", type=TimeType(), help="Received from then on; by default all that is still there.")
@click.option("--until", type=TimeType(), help="Received before then; by default now.")
@click.option("--merchant", help="Of this merchant alone.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Count, and do nothing.")
@click.option("--patience", "patience_s", default=60.0, show_default=True, type=click.FloatRange(min=1), help="Seconds without any progress after which it gives up.")  # fmt: skip  # noqa: E501
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output; asks nothing: give --yes.")
def resend(
    path: Path,
    since: datetime | None,
    until: datetime | None,
    merchant: str | None,
    yes: bool,
    dry_run: bool,
    patience_s: float,
    as_json: bool,
) -> None:
    """Send again what the journal in PATH still holds of what Kafka has acknowledged: for a Kafka that lost it.

    A receiver keeps that for 15 minutes, less where its quota needs the room. It may go on running: this only reads,
    and leaves what waits to the receiver (or to drain). The records have the same event ids, so that nothing takes
    effect twice, and the header re-sent.

    Exit codes: 0 done; 1 damaged bytes were passed over, or the disk failed; 75 Kafka does not take anything, or it was
    interrupted or not confirmed.

    Example: dial-results journal resend /var/lib/dial-results/journal --since 15m --merchant acme
    """
    choice = Choice(_ms(since) or 0, _ms(until) or time.time_ns() // 1_000_000, merchant)
    try:
        retained = Retained(path, choice)
        found = Counter(callback.merchant for callback in retained)
    except OSError as error:
        raise click.ClickException(f"The journal cannot be read: {error.strerror}") from None
    if retained.published == 0 and retained.waiting == 0:
        raise click.BadParameter("there is no journal in this folder, or nothing was ever in it", param_hint="PATH")
    by_merchant = ", ".join(f"{name} {count:,}" for name, count in sorted(found.items()))
    click.echo(f"{found.total():,} callbacks to send again{': ' if found else ''}{by_merchant}", err=True)
    if dry_run or not found:
        _print({"callbacks": found.total(), "damaged": len(retained.damages)}, as_json, "Nothing was sent.")
        return
    if not yes and (as_json or not click.confirm("Send them?", err=True)):
        raise SystemExit(TRY_LATER)
    log_to_standard_error()
    raise SystemExit(_resend(retained, found.total(), client_options(), patience_s, as_json=as_json))


def _resend(retained: Retained, count: int, options: Mapping[str, Any], patience_s: float, *, as_json: bool) -> int:
    counts, source = PublishCounts(), Resending(retained, count)
    headers = [(RESENT, timestamp(datetime.now(UTC)).encode())]
    sending = send_all(
        source, options, counts, patience_s, lambda: click.echo(f"{source.waiting:,} left", err=True), headers
    )
    try:
        asyncio.run(sending)
    except OSError:
        said, code = "The disk failed", CHECK_FAILED
    except StandsStill:
        said, code = f"Kafka took nothing for {patience_s:g} s", TRY_LATER
    except KeyboardInterrupt:
        said, code = "Interrupted", TRY_LATER
    else:
        said, code = "All is sent again", CHECK_FAILED if retained.damages else DONE
    figures = became(counts) | {"damaged": len(retained.damages)}
    _print(figures, as_json, f"{said}: " + ", ".join(f"{name} {number:,}" for name, number in figures.items()))
    return code


def _ms(when: datetime | None) -> int | None:
    return None if when is None else round(when.timestamp() * 1000)


def _print(figures: Mapping[str, int], as_json: bool, text: str) -> None:
    click.echo(orjson.dumps(figures).decode() if as_json else text)
