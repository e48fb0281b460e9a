"""The ready reports: SQL that any engine over the table understands (DataFusion, DuckDB, Spark)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

TABLE = "results"
"""The name of the table in every query."""

NOT_REACHED = ("unreachable", "busy", "voicemail", "cancelled")
_REACHED = "conclusion_group NOT IN ({})".format(", ".join(f"'{group}'" for group in NOT_REACHED))


@dataclass(frozen=True)
class Report:
    """`sql` with a place for the condition.

    A plot shows the columns `x` and `y`, parted by `by`; of a single row each column is one `x`, its value the `y`.
    """

    title: str
    sql: str
    x: str
    y: str
    by: str | None = None


REPORTS = {
    "contact-rate": Report(
        "Contact rate by hour of the call (UTC)",
        f"""
SELECT hour, COUNT(*) AS calls, SUM(reached) AS reached, ROUND(100.0 * SUM(reached) / COUNT(*), 2) AS percent
FROM (
  SELECT CAST(EXTRACT(HOUR FROM COALESCE(called_at, received_at)) AS INT) AS hour,
         CASE WHEN {_REACHED} THEN 1 ELSE 0 END AS reached
  FROM {TABLE} WHERE {{where}}
) AS calls GROUP BY hour ORDER BY hour""",
        x="hour",
        y="percent",
    ),
    "conclusions": Report(
        "Conclusions by task and day",
        f"""
SELECT date, task_id, COALESCE(conclusion_group, 'none') AS conclusion_group, COUNT(*) AS results
FROM {TABLE} WHERE {{where}}
GROUP BY date, task_id, conclusion_group ORDER BY date, task_id, conclusion_group""",
        x="date",
        y="results",
        by="conclusion_group",
    ),
    "promise-funnel": Report(
        "Contacts by how far they came",
        f"""
SELECT COUNT(*) AS dialled, SUM(reached) AS reached, SUM(promised) AS promised, SUM(paid) AS paid
FROM (
  SELECT MAX(CASE WHEN {_REACHED} THEN 1 ELSE 0 END) AS reached,
         MAX(CASE WHEN conclusion_group IN ('promise', 'paid') THEN 1 ELSE 0 END) AS promised,
         MAX(CASE WHEN conclusion_group = 'paid' THEN 1 ELSE 0 END) AS paid
  FROM {TABLE} WHERE {{where}} GROUP BY merchant, record_id
) AS contacts""",
        x="step",
        y="contacts",
    ),
}


@dataclass(frozen=True)
class Asked:
    """Which results a report is about; None: all. Times are aware."""

    since: datetime | None = None
    until: datetime | None = None
    merchant: str | None = None
    task: str | None = None

    def where(self) -> str:
        """Return the condition. It names the day too, so that whole days of files are passed over."""
        found = [f"{column} = '{_quoted(value)}'" for column, value in self._equal().items() if value is not None]
        for moment, compared in ((self.since, ">="), (self.until, "<")):
            if moment:
                at = moment.astimezone(UTC)
                found += [f"date {compared[0]}= DATE '{at:%Y-%m-%d}'"]
                found += [f"received_at {compared} TIMESTAMP '{at:%Y-%m-%d %H:%M:%S.%f}+00:00'"]
        return " AND ".join(found) or "1 = 1"

    def _equal(self) -> dict[str, str | None]:
        return {"merchant": self.merchant, "task_id": self.task}


def sql(name: str, asked: Asked) -> str:
    """Return a report's SQL."""
    return REPORTS[name].sql.format(where=asked.where()).strip()


def _quoted(text: str) -> str:
    return text.replace("'", "''")
