"""Upkeep of the table: few large files, few versions. In a thread of its own, beside the writing. All of it blocks."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import structlog
from deltalake.exceptions import CommitFailedError, DeltaError

from .lake import KEEP_HOURS, WRITER, open_table

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from .settings import Settings

log = structlog.get_logger()

_TARGET_BYTES = 8_000_000  # files close early, so that compaction never rewrites a whole day
_CLEAN_EVERY = 5  # compactions
_TURN = "dialResults.tidied"
"""The table's property that says at which version, and by whom, it was last tidied."""


class Tidying:
    """Has a `DeltaTable` object of its own: what it reads and commits does not disturb whoever appends meanwhile."""

    def __init__(self, settings: Settings, version: int) -> None:
        self._settings = settings
        self._every = settings.compact_every
        self._tidied = version // self._every

    def is_due(self, version: int) -> bool:
        """Tell whether so many versions were made since the last time."""
        return version // self._every != self._tidied

    def tidy(self, version: int) -> None:
        """Join small files; every so many times also remove what nobody needs any more."""
        due = version // self._every
        try:
            table = open_table(self._settings)
            if self._takes_turn(table, due):
                _join(table)
                if due // _CLEAN_EVERY != self._tidied // _CLEAN_EVERY:
                    _clean(table)
            self._tidied = due
        except CommitFailedError:  # somebody wrote at the same moment: it stays due
            log.info("tidying_postponed")
        except (DeltaError, OSError) as error:  # the rows are durable all the same, and it will be tried again
            self._tidied = due
            log.warning("table_not_tidied", error=type(error).__name__)

    def _takes_turn(self, table: DeltaTable, due: int) -> bool:
        """Mark the table as being tidied by this process, and tell whether the version at hand says so.

        delta-rs 1.6 lets two compactions of the same files both succeed, which doubles every row in them. But a commit
        fails that was begun before a change of the table's properties: so each compaction begins with one of its own,
        and whoever planned another before it, were he frozen for hours, comes too late.
        """
        version = table.metadata().configuration.get(_TURN, "0").partition(" ")[0]
        if int(version) // self._every >= due:
            return False
        mine = f"{table.version()} {uuid.uuid4()}"
        table.alter.set_table_properties({_TURN: mine}, raise_if_not_exists=False)
        return table.metadata().configuration.get(_TURN) == mine


def _join(table: DeltaTable) -> None:
    # One file at a time: two would take twice the memory, and the core that decodes.
    table.optimize.compact(target_size=_TARGET_BYTES, writer_properties=WRITER, max_concurrent_tasks=1)


def _clean(table: DeltaTable) -> None:
    # full: also files of writers that were killed before their commit.
    table.vacuum(retention_hours=KEEP_HOURS, enforce_retention_duration=False, dry_run=False, full=True)
    table.update_incremental()
    table.create_checkpoint()
    table.cleanup_metadata()
