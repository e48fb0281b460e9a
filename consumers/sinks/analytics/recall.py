"""Fills the memory of recent ids from the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .memory import FROM_TABLE, REPEATS_S, Memory, packed
from .rows import DAY_US, day

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .lake import Lake
    from .memory import Numbers

FEW = 1_000
"""So many old results among a batch's are rather merged than the memory read anew for their sake."""

_PIECE = 200_000  # ids read at once
_HOUR_S = 3_600
_MINUTE_US = 60_000_000
_MICROSECONDS = "CAST(received_at AS BIGINT)"


class _Minute(NamedTuple):
    number: int  # since 1970
    rows: int


def horizon_for(times: Numbers) -> int:
    """Return the second from which ids must be known, so that of these results (microseconds) but a few are older.

    A full hour, so that a little older does not at once mean anew.
    """
    place = min(FEW, len(times) - 1)
    oldest = int(np.partition(times, place)[place])
    return (oldest // 1_000_000 - REPEATS_S) // _HOUR_S * _HOUR_S


def recall(lake: Lake, horizon_s: int, limit: int) -> Memory:
    """Read the ids received since, minute after minute; of more than `limit` the newest."""
    minutes = _minutes(lake, horizon_s)
    newest = _newest(minutes, limit)
    if len(newest) < len(minutes):
        horizon_s = (minutes[-len(newest) - 1].number + 1) * 60
    memory = Memory(horizon_s, limit)
    for first, last in _pieces(newest):
        query = f"SELECT event_id, {_MICROSECONDS} AS at FROM t WHERE {_between(first, last + 1)}"  # noqa: S608  # numbers
        for piece in lake.query(query):
            received_at = np.array(piece["at"].to_pylist(), np.int64)
            memory.add(packed(piece["event_id"].to_pylist()), received_at, np.full(piece.num_rows, FROM_TABLE))
    return memory


def _minutes(lake: Lake, horizon_s: int) -> list[_Minute]:
    """Count the rows received in each minute since, in order."""
    query = (
        f"SELECT {_MICROSECONDS} / {_MINUTE_US} AS minute, COUNT(*) AS rows FROM t "  # noqa: S608  # numbers
        f"WHERE {_between(horizon_s // 60)} GROUP BY 1 ORDER BY 1"
    )
    return [
        _Minute(number, rows)
        for piece in lake.query(query)
        for number, rows in zip(piece["minute"].to_pylist(), piece["rows"].to_pylist(), strict=True)
    ]


def _newest(minutes: Sequence[_Minute], limit: int) -> list[_Minute]:
    found: list[_Minute] = []
    for minute in reversed(minutes):
        limit -= minute.rows
        if limit < 0:
            break
        found.append(minute)
    return found[::-1]


def _pieces(minutes: Sequence[_Minute]) -> Iterator[tuple[int, int]]:
    """Join minutes to pieces of about `_PIECE` rows: the first and the last minute of each."""
    start, total = None, 0
    for minute in minutes:
        start = minute.number if start is None else start
        total += minute.rows
        if total >= _PIECE or minute is minutes[-1]:
            yield start, minute.number
            start, total = None, 0


def _between(first: int, end: int | None = None) -> str:
    """Select the minutes from `first` to before `end`; on plain columns, so that files are skipped by it."""
    condition = f"date >= DATE '{day(first * _MINUTE_US // DAY_US)}' AND received_at >= {_timestamp(first)}"
    return condition if end is None else f"{condition} AND received_at < {_timestamp(end)}"


def _timestamp(minute: int) -> str:
    return f"arrow_cast({minute * _MINUTE_US}, 'Timestamp(Microsecond, Some(\"UTC\"))')"
