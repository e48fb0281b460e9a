"""What workers left behind that there are no more: `--workers` was made smaller, and nobody else would publish it."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import structlog

from receiver.journal import Journal, JournalFailed, JournalLocked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from receiver.counts import PublishCounts
    from receiver.journal import JournalLimits
    from receiver.publishing import Publishing

log = structlog.get_logger()

_AGAIN_S = 5.0
_NAME = re.compile(r"worker-(\d+)")


def left_behind(journal_dir: Path, workers: int) -> list[Path]:
    """Return the journals of workers whose number there is no more."""
    names = {path: _NAME.fullmatch(path.name) for path in journal_dir.iterdir()}
    return sorted(path for path, name in names.items() if name and int(name[1]) >= workers)


class LeftJournals:
    """Publishes them one after the other, beside the receiver's own.

    `waiting` is what they still hold, `recovered` what they held when they were taken over.
    """

    def __init__(
        self,
        paths: list[Path],
        limits: JournalLimits,
        publishing: Callable[[Journal, PublishCounts], Publishing],
        counts: PublishCounts,
    ) -> None:
        self._paths = paths
        self._limits = limits
        self._publishing = publishing
        self._counts = counts
        self._journal: Journal | None = None
        self.recovered = 0

    @property
    def waiting(self) -> int:
        return self._journal.waiting if self._journal else 0

    async def publish(self) -> None:
        """Return when all are empty. One whose disk fails is left as it is, and said so."""
        for path in self._paths:
            try:
                await self._publish(await self._open(path))
            except JournalFailed:
                log.error("left_journal_failed", journal=path.name)  # noqa: TRY400  # what failed is logged already

    async def _open(self, path: Path) -> Journal:
        while True:
            try:
                return await asyncio.to_thread(Journal.open, path, self._limits)
            except JournalLocked:  # its worker is still stopping, or somebody drains it
                await asyncio.sleep(_AGAIN_S)

    async def _publish(self, journal: Journal) -> None:
        self._journal = journal
        self.recovered += journal.waiting
        try:
            if journal.waiting:
                log.warning("left_journal_taken_over", journal=journal.path.name, waiting=journal.waiting)
                await self._until_empty(journal)
                log.info("left_journal_published", journal=journal.path.name)
        finally:
            self._journal = None
            self.recovered -= journal.waiting  # of one that fails: left where it is
            await journal.close()

    async def _until_empty(self, journal: Journal) -> None:
        publishing = asyncio.create_task(self._publishing(journal, self._counts).run())
        emptied = asyncio.create_task(journal.emptied())
        try:
            await asyncio.wait((publishing, emptied), return_when=asyncio.FIRST_COMPLETED)
        finally:
            publishing.cancel()
            emptied.cancel()
            await asyncio.wait((publishing, emptied))
        if not publishing.cancelled():
            publishing.result()
