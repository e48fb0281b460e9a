"""The Delta table: everything that delta-rs does for us. All of it blocks; call it in a thread, one at a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from deltalake import CommitProperties, DeltaTable, QueryBuilder, Transaction, write_deltalake
from deltalake.exceptions import DeltaError

from .memory import HOURS, LIMIT, Memory
from .rows import SCHEMA, microseconds, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arro3.core import Table

    from .settings import Settings

MERGE_DAYS = 45
_TARGET_BYTES = 4_000_000
_COMMIT_RETRIES = 5
_DAY_S = 86_400
_CONFIGURATION: dict[str, str | None] = {"delta.minReaderVersion": "1", "delta.minWriterVersion": "2"}


class Lake:
    """One `DeltaTable` object: delta-rs detects a competing commit only against the version that this object read."""

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
        self._every = settings.compact_every
        self._commits = 0
        self._committed: dict[str, int] = {}  # of the version read last: asking delta-rs takes 0.2 ms each

    def refresh(self) -> None:
        """Read the commits since; whoever decides by what it read must commit before the next refresh."""
        self._committed.clear()
        self._table.update_incremental()

    def committed(self, app_id: str) -> int:
        """Return the first offset that is not in the table yet."""
        if app_id not in self._committed:
            self._committed[app_id] = self._table.transaction_version(app_id) or 0
        return self._committed[app_id]

    def append(self, rows: Sequence[tuple[Any, ...]], versions: Mapping[str, int]) -> None:
        """Add rows and transaction versions in one commit; without rows only the versions."""
        write_deltalake(self._table, table(rows), mode="append", commit_properties=_properties(versions))
        self._commits += 1

    def merge(self, rows: Sequence[tuple[Any, ...]], versions: Mapping[str, int]) -> None:
        """Add those rows whose id is not in the table within 45 days of theirs."""
        days = [one[5] for one in rows]
        predicate = (
            f"t.date >= DATE '{_day(min(days) - MERGE_DAYS)}' AND t.date <= DATE '{_day(max(days) + MERGE_DAYS)}'"
            " AND t.event_id = s.event_id"
        )
        merger = self._table.merge(
            table(rows), predicate, source_alias="s", target_alias="t", commit_properties=_properties(versions)
        )
        merger.when_not_matched_insert_all().execute()
        self._commits += 1

    def recent(self) -> Memory:
        """Read the ids of the last 48 hours, the newest 500,000 at most."""
        first_day = int(time.time() - HOURS * 3600) // _DAY_S
        found = self._query(
            f"SELECT event_id, received_at FROM t WHERE date >= DATE '{_day(first_day)}' "  # noqa: S608  # a number
            f"ORDER BY received_at DESC LIMIT {LIMIT + 1}"
        )
        memory = Memory(first_day * _DAY_S * 1_000_000)
        times = [microseconds(moment) for moment in reversed(found["received_at"].to_pylist())]
        memory.add(zip(reversed(found["event_id"].to_pylist()), times, strict=True))
        return memory

    def event_ids(self) -> list[str]:
        """Return the id of every row."""
        return [str(one) for one in self._query("SELECT event_id FROM t")["event_id"].to_pylist()]

    def tidy(self) -> None:
        """Every so many commits: join small files, write a checkpoint, remove what nobody can see any more."""
        if self._commits < self._every:
            return
        self._commits = 0
        try:
            self._table.update_incremental()
            self._table.optimize.compact(target_size=_TARGET_BYTES)
            self._table.create_checkpoint()
            self._table.vacuum(dry_run=False)
        except (DeltaError, OSError):
            return  # the rows are durable all the same; it is tried again so many commits later

    def _query(self, sql: str) -> Table:
        return QueryBuilder().register("t", self._table).execute(sql).read_all()


def _properties(versions: Mapping[str, int]) -> CommitProperties:
    transactions = [Transaction(app_id, version) for app_id, version in versions.items()]
    return CommitProperties(app_transactions=transactions, max_commit_retries=_COMMIT_RETRIES)


def _day(number: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(number * _DAY_S))
