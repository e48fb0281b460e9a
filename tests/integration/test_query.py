"""`dial-results query`: the reports count what is there, every form says the same, and nothing is ever written."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from consumers.sinks.analytics import Settings, connect
from ops.analytics.reports import REPORTS
from ops.query import query
from tests.integration.test_analytics import event, live, settings

__all__ = ["settings"]  # the fixture

DAY = datetime(2026, 11, 23, 8, tzinfo=UTC)
CALLS = [("HPTP", 8), ("D01", 8), ("D99", 9), ("AP", 9), (None, 10), ("HPTP", 10)]


@pytest.fixture
async def uri(settings: Settings) -> str:
    """Six calls of three contacts on one day, and a later one of a fourth by another task."""
    calls = [
        event(str(number % 3), DAY + timedelta(minutes=number), conclusion=code, callTime=f"2026-11-23 {hour:02}:30:00")
        for number, (code, hour) in enumerate(CALLS)
    ]
    async with connect(settings, {}) as sink:
        await sink.write(live([*calls, event("9", DAY + timedelta(days=1), conclusion="AP")]))
    return settings.uri


def run(*arguments: str, uri: str | None = None) -> Result:
    return CliRunner().invoke(query, [*arguments, *(["--uri", uri] if uri else [])])


def told(*arguments: str, uri: str) -> Any:
    result = run(*arguments, "--json", uri=uri)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def test_the_reports_count_what_is_there(uri: str) -> None:
    until = ["--until", "2026-11-24"]
    assert told("--report", "contact-rate", *until, uri=uri) == [
        {"hour": 8, "calls": 2, "reached": 1, "percent": 50.0},
        {"hour": 9, "calls": 2, "reached": 2, "percent": 100.0},
        {"hour": 10, "calls": 2, "reached": 1, "percent": 50.0},
    ]
    groups = {row["conclusion_group"]: row["results"] for row in told("--report", "conclusions", *until, uri=uri)}
    assert groups == {"promise": 2, "busy": 1, "connected": 1, "paid": 1, "none": 1}
    # Contact 0: promise, paid. Contact 1: busy, no code. Contact 2: connected, promise.
    assert told("--report", "promise-funnel", *until, uri=uri) == [
        {"dialled": 3, "reached": 2, "promised": 2, "paid": 1}
    ]
    assert told("--report", "promise-funnel", uri=uri)[0]["paid"] == 2
    assert told("--report", "promise-funnel", "--since", "2026-11-24", uri=uri)[0]["dialled"] == 1
    assert told("--report", "conclusions", "--since", "2026-11-23T08:05:00", *until, uri=uri)[0]["results"] == 1
    assert told("--report", "conclusions", "--task", "it's another", uri=uri) == []
    assert len(told("--report", "conclusions", "--task", "1", "--merchant", "demo", uri=uri)) == 6


async def test_every_form_says_the_same(uri: str) -> None:
    sql = "SELECT record_id, called_at, conclusion, date FROM results ORDER BY received_at"
    rows = told(sql, uri=uri)
    assert rows[0] == {
        "record_id": "0",
        "called_at": "2026-11-23T08:30:00.000Z",
        "conclusion": "HPTP",
        "date": "2026-11-23",
    }
    lines = list(csv.DictReader(io.StringIO(run(sql, "--csv", uri=uri).stdout)))
    assert lines == [{name: value or "" for name, value in row.items()} for row in rows]
    table = run(sql, uri=uri)
    assert "HPTP" in table.stdout
    assert not table.stderr


async def test_an_answer_that_is_cut_says_so(uri: str) -> None:
    cut = run("SELECT record_id FROM results", "--json", "--limit", "6", uri=uri)
    assert len(json.loads(cut.stdout)) == 6
    assert "more than 6 rows" in cut.stderr
    for limit in ("7", "0"):
        whole = run("SELECT record_id FROM results", "--json", "--limit", limit, uri=uri)
        assert (len(json.loads(whole.stdout)), whole.stderr) == (7, "")


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize(("ending", "first"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".html", b"<!doctype html>")])
async def test_a_report_becomes_a_picture(uri: str, tmp_path: Path, report: str, ending: str, first: bytes) -> None:
    file = tmp_path / f"picture{ending}"
    result = run("--report", report, "--plot", str(file), uri=uri)
    assert result.exit_code == 0, result.output
    assert file.read_bytes().startswith(first)
    if ending == ".html":
        assert "<svg" in file.read_text()
        assert "<td>" in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["SELECT nope FROM results"], "No field named nope"),
        (["SELECT 1", "--report", "conclusions"], "either SQL or --report"),
        ([], "either SQL or --report"),
        (["SELECT 1", "--task", "1"], "belong to --report"),
        (["SELECT 1", "--json", "--csv"], "either --json or --csv"),
        (["--report", "conclusions", "--plot", "x.gif"], "ends in .png"),
        (["SELECT 1; SELECT 2"], "single SQL statement"),
    ],
)
async def test_what_cannot_be_asked_is_said(uri: str, arguments: list[str], said: str) -> None:
    result = run(*arguments, uri=uri)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


@pytest.mark.parametrize(
    "sql", ["COPY (SELECT 1) TO '{}'", "explain analyze COPY (SELECT 1) TO '{}'", "CREATE TABLE x AS SELECT 1", ""]
)
async def test_nothing_is_ever_written(uri: str, tmp_path: Path, sql: str) -> None:
    result = run(sql.format(tmp_path / "x.csv"), uri=uri)
    assert result.exit_code == 2
    assert "only read here" in result.output
    assert not (tmp_path / "x.csv").exists()


def test_a_table_that_is_not_there_yet_is_asked_again_later(tmp_path: Path) -> None:
    assert run("SELECT 1", uri=str(tmp_path / "none")).exit_code == 75
    nothing = CliRunner().invoke(query, ["SELECT 1", "--data", str(tmp_path)], env={"ANALYTICS_URI": None})
    assert nothing.exit_code == 75
    assert "ANALYTICS_URI" in nothing.stderr


def test_the_sql_of_a_report_is_shown() -> None:
    shown = run("--report", "conclusions", "--since", "2026-11-24", "--show-sql")
    assert "date >= DATE '2026-11-24' AND received_at >= TIMESTAMP '2026-11-24 00:00:00" in shown.stdout
