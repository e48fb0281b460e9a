"""The Delta table: everything that delta-rs does for us. All of it blocks; call it in a thread, one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arro3.core import DataType
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
from deltalake.exceptions import TableNotFoundError

from .rows import SCHEMA, day

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from arro3.core import Table

    from .settings import Settings

MERGE_DAYS = 45
KEEP_HOURS = 6
"""Removed files and old versions are kept so long, for readers in the middle of a query."""

STATISTICS = "delta.dataSkippingStatsColumns"
STATISTICS_OF = "merchant,task_id,received_at,date,called_at"
"""Whose least and greatest values the log names: none that stands for a person, since the log outlives an erasure."""

_COMMIT_RETRIES = 5
_CONFIGURATION: dict[str, str | None] = {
    "delta.minReaderVersion": "1",
    "delta.minWriterVersion": "2",
    # A commit a second makes 86,400 versions a day. Each commit looks through those kept: 1.7 ms a thousand (measured).
    "delta.logRetentionDuration": f"interval {KEEP_HOURS} hours",
    # A checkpoint forgets removed files of this age; vacuum has to have seen them before, so it comes first (`_clean`).
    "delta.deletedFileRetentionDuration": f"interval {2 * KEEP_HOURS} hours",
    "delta.checkpointInterval": "1000000",
    STATISTICS: STATISTICS_OF,
}
_SCHEMA = DeltaSchema.from_arrow(SCHEMA)
_RANDOM = ColumnProperties(dictionary_enabled=False)
WRITER = WriterProperties(  # half the size of the default, at its speed
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
        try:
            self._table = open_table(settings)
        except TableNotFoundError:
            _create(settings)
            self._table = open_table(settings)
        _widen(self._table)
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

    @property
    def version(self) -> int:
        """The version read or written last."""
        return self._table.version()

    def append(self, rows: Table, versions: Mapping[str, int]) -> None:
        """Add rows and transaction versions in one commit; without rows only the versions."""
        properties = _properties(versions)
        write_deltalake(self._table, rows, mode="append", writer_properties=WRITER, commit_properties=properties)

    def merge(self, rows: Table, versions: Mapping[str, int]) -> bool:
        """Add the rows whose id is not there within 45 days of theirs; tell whether that made a commit."""
        days = rows["date"].cast(DataType.int32()).to_pylist()
        first, last = day(min(days), -MERGE_DAYS), day(max(days), MERGE_DAYS)
        predicate = f"t.date >= DATE '{first}' AND t.date <= DATE '{last}' AND t.event_id = s.event_id"
        merger = self._table.merge(
            rows,
            predicate,
            source_alias="s",
            target_alias="t",
            writer_properties=WRITER,
            commit_properties=_properties(versions),
        )
        before = self._table.version()
        merger.when_not_matched_insert_all().execute()
        return self._table.version() != before

    def query(self, sql: str) -> Iterator[Table]:
        """Run SQL on the table, which it calls `t`; give the rows in pieces."""
        yield from QueryBuilder().register("t", self._table).execute(sql)


def open_table(settings: Settings) -> DeltaTable:
    """Return the table as it stands.

    `DeltaTable.is_deltatable` would not do: it keeps Python's lock while it waits for S3, and no heartbeat goes out.

    Raises:
        TableNotFoundError: there is none.
    """
    return DeltaTable(settings.uri, storage_options=settings.storage_options or None)


def _widen(table: DeltaTable) -> None:
    """Give the table of an older version the columns that came since.

    Raises:
        UnfitTable: what stands before them differs.
        DeltaError: another process did so at the same moment.
    """
    there = table.schema().fields
    if there != _SCHEMA.fields[: len(there)]:
        raise UnfitTable("ANALYTICS_URI leads to a table of other columns")
    if missing := _SCHEMA.fields[len(there) :]:
        table.alter.add_columns(missing)


def _create(settings: Settings) -> None:
    DeltaTable.create(
        settings.uri,
        schema=SCHEMA,
        mode="ignore",
        partition_by=["date"],
        configuration=_CONFIGURATION,
        storage_options=settings.storage_options or None,
    )


def all_event_ids(settings: Settings) -> list[str]:
    """Return the id of every row; none where there is no table."""
    try:
        open_table(settings)
    except TableNotFoundError:
        return []
    pieces = Lake(settings).query("SELECT event_id FROM t")
    return [str(one) for piece in pieces for one in piece["event_id"].to_pylist()]


def _properties(versions: Mapping[str, int]) -> CommitProperties:
    transactions = [Transaction(app_id, version) for app_id, version in versions.items()]
    return CommitProperties(app_transactions=transactions, max_commit_retries=_COMMIT_RETRIES)
