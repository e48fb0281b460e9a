"""The Delta table: everything that delta-rs does for us. All of it blocks; call it in a thread, one at a time."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import structlog
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    QueryBuilder,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError

from .rows import SCHEMA, day, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from arro3.core import Table

    from .settings import Settings

log = structlog.get_logger()

MERGE_DAYS = 45
_TARGET_BYTES = 8_000_000  # files close early, so that compaction never rewrites a whole day
_CLEAN_EVERY = 5  # compactions
_KEEP_HOURS = 6  # of removed files, for readers in the middle of a query
_COMMIT_RETRIES = 5
_TURN = "dialResults.tidied"
"""The table's property that says at which version, and by whom, it was last tidied."""

_CONFIGURATION: dict[str, str | None] = {
    "delta.minReaderVersion": "1",
    "delta.minWriterVersion": "2",
    # A commit a second makes 86,400 versions a day. Each commit looks through those kept: 1.7 ms a thousand (measured).
    "delta.logRetentionDuration": f"interval {_KEEP_HOURS} hours",
    # A checkpoint forgets removed files of this age; vacuum has to have seen them before, so it comes first (`_clean`).
    "delta.deletedFileRetentionDuration": f"interval {2 * _KEEP_HOURS} hours",
    "delta.checkpointInterval": "1000000",
}
_SCHEMA = DeltaSchema.from_arrow(SCHEMA)
_RANDOM = ColumnProperties(dictionary_enabled=False)
_WRITER = WriterProperties(  # half the size of the default, at its speed
    compression="ZSTD", compression_level=1, column_properties={"event_id": _RANDOM, "person": _RANDOM}
)


class UnfitTable(Exception):  # noqa: N818  # what it is
    """What stands at `ANALYTICS_URI` is a Delta table of other columns: waiting does not mend that."""


class Lake:
    """One `DeltaTable` object: delta-rs detects a competing commit only against the version that this object read.

    Raises:
        UnfitTable: it has other columns.
        DeltaError, OSError: the storage is away.
    """

    def __init__(self, settings: Settings) -> None:
        options = settings.storage_options or None
        if not DeltaTable.is_deltatable(settings.uri, storage_options=options):
            DeltaTable.create(
                settings.uri,
                schema=SCHEMA,
                mode="ignore",
                partition_by=["date"],
                configuration=_CONFIGURATION,
                storage_options=options,
            )
        self._table = DeltaTable(settings.uri, storage_options=options)
        if self._table.schema() != _SCHEMA:
            raise UnfitTable("ANALYTICS_URI leads to a table of other columns")
        self._every = settings.compact_every
        self._tidied = self._table.version() // self._every
        self._committed: dict[str, int] = {}  # of the version read last: asking delta-rs takes 0.2 ms each

    def refresh(self) -> None:
        """Read the commits since; whoever decides by what it read must commit before the next refresh."""
        self._committed.clear()
        self._table.update_incremental()

    def committed(self, app_id: str) -> int:
        """Return the transaction version, 0 where there is none: of a partition the first offset not in the table."""
        if app_id not in self._committed:
            self._committed[app_id] = self._table.transaction_version(app_id) or 0
        return self._committed[app_id]

    def append(self, rows: Sequence[tuple[Any, ...]], versions: Mapping[str, int]) -> None:
        """Add rows and transaction versions in one commit; without rows only the versions."""
        properties = _properties(versions)
        write_deltalake(
            self._table, table(rows), mode="append", writer_properties=_WRITER, commit_properties=properties
        )

    def merge(self, rows: Sequence[tuple[Any, ...]], versions: Mapping[str, int]) -> bool:
        """Add the rows whose id is not there within 45 days of theirs; tell whether that made a commit."""
        times = [one[4] for one in rows]
        first, last = day(min(times), -MERGE_DAYS), day(max(times), MERGE_DAYS)
        predicate = f"t.date >= DATE '{first}' AND t.date <= DATE '{last}' AND t.event_id = s.event_id"
        merger = self._table.merge(
            table(rows),
            predicate,
            source_alias="s",
            target_alias="t",
            writer_properties=_WRITER,
            commit_properties=_properties(versions),
        )
        before = self._table.version()
        merger.when_not_matched_insert_all().execute()
        return self._table.version() != before

    def query(self, sql: str) -> Iterator[Table]:
        """Run SQL on the table, which it calls `t`; give the rows in pieces."""
        yield from QueryBuilder().register("t", self._table).execute(sql)

    def tidy(self) -> None:
        """Every so many versions join small files; every so many times also remove what nobody needs any more."""
        due = self._table.version() // self._every
        if due == self._tidied:
            return
        clean = due // _CLEAN_EVERY != self._tidied // _CLEAN_EVERY
        self._tidied = due
        try:
            self._table.update_incremental()
            if self._takes_turn(due):
                self._table.optimize.compact(target_size=_TARGET_BYTES, writer_properties=_WRITER)
                if clean:
                    self._clean()
        except CommitFailedError:  # another process took its turn meanwhile
            log.info("table_tidied_by_another")
        except (DeltaError, OSError) as error:  # the rows are durable all the same, and it will be tried again
            log.warning("table_not_tidied", error=type(error).__name__)

    def _takes_turn(self, due: int) -> bool:
        """Mark the table as being tidied by this process, and tell whether the version at hand says so.

        delta-rs 1.6 lets two compactions of the same files both succeed, which doubles every row in them. But a commit
        fails that was begun before a change of the table's properties: so each compaction begins with one of its own,
        and whoever planned another before it, were he frozen for hours, comes too late.
        """
        version = self._table.metadata().configuration.get(_TURN, "0").partition(" ")[0]
        if int(version) // self._every >= due:
            return False
        mine = f"{self._table.version()} {uuid.uuid4()}"
        self._table.alter.set_table_properties({_TURN: mine}, raise_if_not_exists=False)
        return self._table.metadata().configuration.get(_TURN) == mine

    def _clean(self) -> None:
        self._table.vacuum(retention_hours=_KEEP_HOURS, enforce_retention_duration=False, dry_run=False)
        self._table.update_incremental()
        self._table.create_checkpoint()
        self._table.cleanup_metadata()


def all_event_ids(settings: Settings) -> list[str]:
    """Return the id of every row; none where there is no table."""
    if not DeltaTable.is_deltatable(settings.uri, storage_options=settings.storage_options or None):
        return []
    pieces = Lake(settings).query("SELECT event_id FROM t")
    return [str(one) for piece in pieces for one in piece["event_id"].to_pylist()]


def _properties(versions: Mapping[str, int]) -> CommitProperties:
    transactions = [Transaction(app_id, version) for app_id, version in versions.items()]
    return CommitProperties(app_transactions=transactions, max_commit_retries=_COMMIT_RETRIES)
