"""Sending callbacks out of a journal by hand: what `journal drain` and `journal resend` share."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from receiver.publisher import Publisher, Source
from schemas.logs import configure_logging
from schemas.quiet import quieten

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from receiver.counts import PublishCounts

DONE, CHECK_FAILED, TRY_LATER = 0, 1, 75
_LOOK_EVERY_S = 0.5


class NothingMore(Exception):  # noqa: N818  # how a source tells its publisher that it is at its end
    """Everything was handed out."""


class StandsStill(Exception):  # noqa: N818  # Kafka's doing
    """For so long nothing more was acknowledged."""


async def send_all(
    source: Source,
    options: Mapping[str, Any],
    counts: PublishCounts,
    patience_s: float,
    told: Callable[[], None],
    headers: Sequence[tuple[str, bytes]] = (),
) -> None:
    """Publish until the source raises NothingMore, which is the end; `told` is called as it advances.

    Raises:
        StandsStill: nothing was acknowledged for `patience_s`. What was is marked.
        JournalFailed: the disk.
    """
    async with _running(Publisher(source, options, counts, headers=headers)) as sending:
        at, since_s = source.published, time.monotonic()
        while not sending.done():
            await asyncio.wait((sending,), timeout=_LOOK_EVERY_S)
            if source.published != at:
                at, since_s = source.published, time.monotonic()
                told()
            elif time.monotonic() - since_s > patience_s:
                raise StandsStill
        if not isinstance(sending.exception(), NothingMore):
            sending.result()


@asynccontextmanager
async def _running(publisher: Publisher) -> AsyncIterator[asyncio.Task[None]]:
    sending = asyncio.create_task(publisher.run())
    try:
        yield sending
    finally:
        sending.cancel()
        await asyncio.wait((sending,))


def log_to_standard_error() -> None:
    """Have what the publisher and the journal report on standard error: the result alone is on standard output."""
    configure_logging("journal", "warning")
    quieten()


def became(counts: PublishCounts) -> dict[str, int]:
    """Say what the callbacks became, in plain numbers."""
    return {
        "results": counts.published.total(),
        "quarantined": counts.quarantined.total(),
        "empty": counts.empty,
        "repeats": counts.repeats,
    }
