"""An answer of the analytics table, and the forms in which it is given."""

from __future__ import annotations

import csv
import json
from datetime import date, datetime
from decimal import Decimal
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from deltalake import DeltaTable, QueryBuilder
from rich.console import Console
from rich.table import Table

from .reports import TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping


class Answer(NamedTuple):
    """Column names and rows. `is_whole` is False where there are more rows than were asked for."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    is_whole: bool


def ask(uri: str, options: Mapping[str, str], sql: str, limit: int) -> Answer:
    """Run SQL on the table, which it calls `results`; read no more than `limit` rows of the answer (0: all).

    Raises:
        DeltaError: there is no such table, or the SQL is wrong; the message says which.
        OSError: the storage is away.
    """
    found = QueryBuilder().register(TABLE, DeltaTable(uri, storage_options=dict(options) or None)).execute(sql)
    columns = list(found.schema.names)
    pieces = (zip(*(column.to_pylist() for column in piece.columns), strict=True) for piece in found)
    rows = chain.from_iterable(pieces)
    kept = list(islice(rows, limit or None))
    return Answer(columns, kept, not limit or next(rows, None) is None)


def print_table(answer: Answer, title: str) -> None:
    """Print for people."""
    table = Table(title=title or None)
    for place, column in enumerate(answer.columns):
        is_number = any(isinstance(row[place], int | float | Decimal) for row in answer.rows[:10])
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in answer.rows:
        table.add_row(*("" if value is None else str(_plain(value)) for value in row))
    Console().print(table)


def print_json(answer: Answer) -> None:
    """Print one array of objects, a line each."""
    lines = (json.dumps(dict(zip(answer.columns, map(_plain, row), strict=True))) for row in answer.rows)
    print("[" + ",\n ".join(lines) + "]")


def write_csv(answer: Answer, out: TextIO) -> None:
    """Write with a line of names; an empty field is null."""
    writer = csv.writer(out)
    writer.writerow(answer.columns)
    writer.writerows([_plain(value) for value in row] for row in answer.rows)


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
