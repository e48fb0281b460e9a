"""`dial-results journal drain PATH`: publish what waits in a journal whose receiver is gone."""

from __future__ import annotations

import asyncio
import math
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
from receiver.counts import PublishCounts
from receiver.journal import Journal, JournalError, JournalLimits, JournalLocked, survey

if TYPE_CHECKING:
    from collections.abc import Mapping


# Nothing is appended: the segment that a journal prepares stays small. Neither quota nor time takes what is published.
_LIMITS = JournalLimits(segment_bytes=64 * 1024, quota_bytes=1 << 50, disk_share=1, insurance_s=math.inf)


class Draining:
    """A journal, to its end."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.read, self.mark_published = journal.read, journal.mark_published

    @property
    def published(self) -> int:
        return self._journal.published

    @property
    def waiting(self) -> int:
        return self._journal.waiting

    async def wait(self, after: int) -> None:
        """Return at once. Raises NothingMore."""
        if not self._journal.has_more(after):
            raise NothingMore


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say how much waits, and do nothing.")
@click.option("--patience", "patience_s", default=60.0, show_default=True, type=click.FloatRange(min=1), help="Seconds without any progress after which it gives up.")  # fmt: skip  # noqa: E501
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output at the end.")
def drain(path: Path, dry_run: bool, patience_s: float, as_json: bool) -> None:
    """Publish what waits in the journal in PATH, whose receiver is gone.

    Kafka is reached by KAFKA_..., as by the receiver. Ctrl-C is safe at any time: run it again to go on. At most
    1,000 callbacks are then sent twice, and collapse by event id. What is published stays in the
    folder, unless the disk is full.

    Exit codes: 0 all published; 1 all that is good is published, but callbacks are missing from the disk, or the disk
    failed; 75 a receiver has the journal, Kafka does not take anything, or it was interrupted.

    Example: KAFKA_BOOTSTRAP_SERVERS=kafka-1:9092 dial-results journal drain /var/lib/dial-results/journal
    """
    found = survey(path, read_whole=False)
    if not found.segments and found.checkpoint == "none":
        raise click.BadParameter("there is no journal in this folder", param_hint="PATH")
    if dry_run:
        _print({"waiting": found.waiting}, as_json, f"{found.waiting:,} callbacks wait.")
        return
    log_to_standard_error()
    raise SystemExit(_drain(path, client_options(), patience_s, as_json=as_json))


def _drain(path: Path, options: Mapping[str, Any], patience_s: float, *, as_json: bool) -> int:
    counts, left = PublishCounts(), [0, 0]
    try:
        asyncio.run(_publish(path, options, counts, patience_s, left))
    except JournalLocked:
        click.echo("A receiver, or another drain, has this journal: it publishes what waits.", err=True)
        return TRY_LATER
    except (JournalError, OSError):
        click.echo("The disk failed. What was published is marked; verify says more.", err=True)
        return CHECK_FAILED
    except StandsStill:
        said, code = f"Kafka took nothing for {patience_s:g} s", TRY_LATER
    except KeyboardInterrupt:
        said, code = "Interrupted", TRY_LATER
    else:
        said, code = "All is published", CHECK_FAILED if left[1] else DONE
    figures = became(counts) | {"waiting": left[0], "missing": left[1]}
    _print(figures, as_json, f"{said}: " + ", ".join(f"{name} {number:,}" for name, number in figures.items()))
    return code


async def _publish(
    path: Path, options: Mapping[str, Any], counts: PublishCounts, patience_s: float, left: list[int]
) -> None:
    journal = await asyncio.to_thread(Journal.open, path, _LIMITS)
    try:
        click.echo(f"{journal.waiting:,} callbacks wait.", err=True)
        await send_all(
            Draining(journal), options, counts, patience_s, lambda: click.echo(f"{journal.waiting:,} left", err=True)
        )
    finally:
        await journal.close()
        left[:] = journal.waiting, journal.damaged_callbacks


def _print(figures: Mapping[str, int], as_json: bool, text: str) -> None:
    click.echo(orjson.dumps(figures).decode() if as_json else text)
