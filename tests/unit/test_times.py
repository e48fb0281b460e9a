from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import click
import pytest
from click.testing import CliRunner

from ops.times import TimeType, parse_time

NOW = datetime(2026, 11, 24, 3, 14, 15, tzinfo=UTC)
KUALA_LUMPUR = ZoneInfo("Asia/Kuala_Lumpur")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("now", NOW),
        ("today", datetime(2026, 11, 24, tzinfo=UTC)),
        ("yesterday", datetime(2026, 11, 23, tzinfo=UTC)),
        (" Yesterday ", datetime(2026, 11, 23, tzinfo=UTC)),
        ("90s", NOW - timedelta(seconds=90)),
        ("15m", NOW - timedelta(minutes=15)),
        ("15min", NOW - timedelta(minutes=15)),
        ("2h", NOW - timedelta(hours=2)),
        ("2 H", NOW - timedelta(hours=2)),
        ("3d", NOW - timedelta(days=3)),
        ("1w", NOW - timedelta(days=7)),
        ("0h", NOW),
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-24T08:30", datetime(2026, 11, 24, 8, 30, tzinfo=UTC)),
        ("2026-11-24 08:30:01.5", datetime(2026, 11, 24, 8, 30, 1, 500_000, tzinfo=UTC)),
        ("2026-11-24T08:30:00Z", datetime(2026, 11, 24, 8, 30, tzinfo=UTC)),
        ("2026-11-24T08:30:00+08:00", datetime(2026, 11, 24, 0, 30, tzinfo=UTC)),
    ],
)
def test_what_an_operator_writes(text: str, meant: datetime) -> None:
    read = parse_time(text, NOW)
    assert read == meant
    assert read.tzinfo is not None


def test_days_begin_where_the_merchant_is() -> None:
    late = datetime(2026, 11, 24, 17, 0, tzinfo=UTC)  # 1 o'clock on the 25th there
    assert parse_time("today", late, KUALA_LUMPUR) == datetime(2026, 11, 24, 16, 0, tzinfo=UTC)
    assert parse_time("yesterday", late, KUALA_LUMPUR) == datetime(2026, 11, 23, 16, 0, tzinfo=UTC)
    assert parse_time("2026-11-25", late, KUALA_LUMPUR) == datetime(2026, 11, 24, 16, 0, tzinfo=UTC)


def test_where_clocks_change_an_hour_is_an_hour_and_a_day_the_calendars() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    noon = datetime(2026, 10, 25, 12, 0, tzinfo=berlin)  # this day has 25 hours
    assert parse_time("12h", noon, berlin) == datetime(2026, 10, 24, 23, 0, tzinfo=UTC)
    assert parse_time("today", noon, berlin) == datetime(2026, 10, 24, 22, 0, tzinfo=UTC)
    assert parse_time("yesterday", noon, berlin) == datetime(2026, 10, 23, 22, 0, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "soon", "2", "h", "2y", "-2h", "2026-13-01", "yesterday 2h", "999999w", "1_0h"])
def test_what_is_no_time_is_answered_with_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time: give ISO .* yesterday"):
        parse_time(text, NOW)


@click.command()
@click.option("--since", type=TimeType())
def _command(since: datetime | None) -> None:
    click.echo("none" if since is None else since.isoformat())


def test_as_the_type_of_an_option() -> None:
    assert CliRunner().invoke(_command, ["--since", "2026-11-24"]).output == "2026-11-24T00:00:00+00:00\n"
    assert CliRunner().invoke(_command, []).output == "none\n"
    refused = CliRunner().invoke(_command, ["--since", "soon"])
    assert refused.exit_code == 2
    assert "'soon' is no time" in refused.output
