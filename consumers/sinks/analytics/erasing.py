"""Erases a contact from the Delta table: its rows, and the files in which they still stand. All of it blocks."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from arro3.core import Array, DataType, Field, Schema, Table
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import CommitFailedError

from consumers.sink import SinkUnavailable

from .lake import STATISTICS, STATISTICS_OF, WRITER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .settings import Settings

_ATTEMPTS = 10
_LEFT_BEHIND_HOURS = 1  # no write takes a tenth of it; a file that old without a commit is a killed writer's
_FENCE = "dialResults.erased"
_TEXT = DataType.string()
_KEY = Schema([Field("merchant", _TEXT, nullable=False), Field("record_id", _TEXT, nullable=False)])


def erase(settings: Settings, merchant: str, record_id: str) -> None:
    """Delete the contact's rows, then remove every file that is no longer part of the table: old versions go with it.

    Whoever reads an old version at this moment loses it in the middle of a query. While the caller holds back this
    process's writing and tidying, another process's goes on: each step commits, or begins anew.

    Raises:
        SinkUnavailable: others were faster every time.
        DeltaError, OSError: the storage is away.
    """
    table = DeltaTable(settings.uri, storage_options=settings.storage_options or None)
    for _ in range(_ATTEMPTS):
        try:
            if _is_gone(table, merchant, record_id):
                return _remove_files(table)
        except CommitFailedError:
            pass  # somebody committed at the same moment
        table.update_incremental()
    raise SinkUnavailable("commit-conflict", retry_after_s=1.0)


def _is_gone(table: DeltaTable, merchant: str, record_id: str) -> bool:
    """Delete what is there; tell whether nothing was left behind it, nor can come of what others began before."""
    if days := _days(table, merchant, record_id):
        _delete(table, days, merchant, record_id)
    # A commit that was begun before a change of the table's properties fails: so does a compaction, or a write of a
    # process that was frozen, that still has the rows in hand.
    table.alter.set_table_properties({_FENCE: str(uuid.uuid4()), STATISTICS: STATISTICS_OF}, raise_if_not_exists=False)
    table.update_incremental()
    return not _days(table, merchant, record_id)


def _days(table: DeltaTable, merchant: str, record_id: str) -> list[str]:
    condition = f"merchant = {_quoted(merchant)} AND record_id = {_quoted(record_id)}"
    query = f"SELECT DISTINCT CAST(date AS VARCHAR) AS day FROM t WHERE {condition}"  # noqa: S608  # quoted
    pieces = QueryBuilder().register("t", table).execute(query)
    return [str(day) for piece in pieces for day in piece["day"].to_pylist()]


def _delete(table: DeltaTable, days: Sequence[str], merchant: str, record_id: str) -> None:
    """Delete by a join: the log keeps the predicate of every commit, and a plain DELETE's would name the contact."""
    key = Table([Array([merchant], type=_TEXT), Array([record_id], type=_TEXT)], schema=_KEY)
    dates = ", ".join(f"DATE '{day}'" for day in days)
    predicate = f"t.date IN ({dates}) AND t.merchant = s.merchant AND t.record_id = s.record_id"
    merger = table.merge(key, predicate, source_alias="s", target_alias="t", writer_properties=WRITER)
    merger.when_matched_delete().execute()


def _remove_files(table: DeltaTable) -> None:
    """Remove what the log says was removed, at once; and what no log mentions, once it is no longer being written."""
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    table.vacuum(retention_hours=_LEFT_BEHIND_HOURS, enforce_retention_duration=False, dry_run=False, full=True)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
