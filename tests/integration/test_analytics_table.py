"""What the table keeps: hostile values, days, upkeep, and what is told of a storage that is away."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from arro3.core import Schema
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from consumers.sink import SinkUnavailable
from consumers.sinks.analytics import Settings, conclusions, connect, event_ids, lake, tidying
from consumers.sinks.analytics.rows import SCHEMA, Rows, microseconds
from schemas.blu import decode_callback
from schemas.event import DialResult, dial_result
from schemas.merchants import Merchant

from .test_analytics import NOW, assert_exactly, event, live, many, replayed, rows, settings

__all__ = ["settings"]  # the fixture

NO_ROWS = Rows({}, b"").table([], np.array([], np.int64))


def parquet(settings: Settings) -> list[Path]:
    return list(Path(settings.uri).glob("date=*/*.parquet"))


def checkpoints(settings: Settings) -> list[Path]:
    return list(Path(settings.uri).glob("_delta_log/*.checkpoint.parquet"))


def from_body(record: str) -> DialResult:
    [found] = decode_callback(f'{{"taskId": "t\\u0000-\U0001f600", "records": [{record}]}}'.encode()).records
    return dial_result("demo", "t\0-\U0001f600", found, round(NOW.timestamp() * 1000))


async def test_hostile_values_stay_as_they_are_or_become_null(settings: Settings) -> None:
    number = "123456789012345678901234567890"
    bodies = [
        f'{{"id": {number}, "conclusion": {number}, "duration": 1e400, "callTime": 1e400}}',
        '{"id": "a\\u0000b", "conclusion": "\\u0000", "duration": "NaN", "callTime": "0001-01-01 00:00:00"}',
        '{"id": "\U0001f600\u202e", "conclusion": "\U0001f600", "duration": "-0.5", "callTime": 1e17}',
        '{"id": "\'; DROP TABLE t; --", "conclusion": ["D99"], "duration": {}, "name": "", "mobile": ""}',
        '{"id": "x", "conclusion": true, "duration": 1e-400, "mobile": 6, "callTime": "1969-12-31T23:59:59.999999Z"}',
    ]
    events = [from_body(body) for body in bodies]
    async with connect(settings, {}) as sink:
        await sink.write(live(events))
        await sink.write(replayed(events, range(5)))
    found = {row["record_id"]: row for row in rows(settings)}
    assert len(found) == 5
    assert {row["task_id"] for row in found.values()} == {"t\0-\U0001f600"}
    big = found[number]
    assert (big["conclusion"], big["duration_s"], big["called_at"]) == (number, None, None)
    assert (found["a\0b"]["conclusion"], found["a\0b"]["duration_s"]) == ("\0", None)
    assert found["a\0b"]["called_at"] == datetime(1, 1, 1, tzinfo=UTC)
    assert (found["\U0001f600\u202e"]["conclusion"], found["\U0001f600\u202e"]["duration_s"]) == ("\U0001f600", -0.5)
    odd = found["'; DROP TABLE t; --"]
    assert (odd["conclusion"], odd["duration_s"], odd["person"]) == (None, None, None)
    assert (found["x"]["conclusion"], found["x"]["duration_s"]) == (None, 0.0)
    assert found["x"]["called_at"] == datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    assert tuple(DeltaTable(settings.uri).protocol())[:2] == (1, 2)


@pytest.mark.parametrize("when", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)])
async def test_a_receiver_with_a_mad_clock_stops_nothing(settings: Settings, when: datetime) -> None:
    mad = event("mad", received=when)
    async with connect(settings, {}) as sink:
        await sink.write(live([event("good"), mad]))
        await sink.write(live([mad, event("better")], 2))
    await assert_exactly(settings, [event("good"), mad, event("better")])


async def test_a_row_belongs_to_the_utc_day_on_which_it_was_received(settings: Settings) -> None:
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    before = event("before", received=midnight - timedelta(milliseconds=1))
    after = event("after", received=midnight)
    async with connect(settings, {}) as sink:
        await sink.write(live([before, after]))
    late = event("before", received=midnight + timedelta(minutes=20))
    assert late.event_id == before.event_id
    async with connect(settings, {}) as sink:
        await sink.write(live([late, event("later", received=midnight + timedelta(minutes=21))], 2))
    days = {row["record_id"]: row["date"] for row in rows(settings)}
    assert days == {"before": date(2026, 2, 28), "after": date(2026, 3, 1), "later": date(2026, 3, 1)}
    assert {file.parent.name for file in parquet(settings)} == {"date=2026-02-28", "date=2026-03-01"}


async def test_upkeep_loses_nothing_and_leaves_few_files_and_versions(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = many(90)
    async with connect(settings, {}) as sink:
        for offset, one in enumerate(events):
            await sink.write(live([one], offset))
    await assert_exactly(settings, events)
    assert len(await event_ids(settings)) == 90
    assert len(DeltaTable(settings.uri).file_uris()) < 5
    assert checkpoints(settings)  # so it was cleaned on schedule; what is not old enough stayed
    assert len(parquet(settings)) > 25
    monkeypatch.setattr(tidying, "KEEP_HOURS", 0)  # only while nobody writes: what is not committed yet would go too
    tidying._clean(DeltaTable(settings.uri))
    assert len(parquet(settings)) < 5
    async with connect(settings, {}) as sink:
        await sink.write(live([*events, event("last")]))
    await assert_exactly(settings, [*events, event("last")])


async def test_two_that_join_the_same_files_double_no_row(settings: Settings) -> None:
    async with connect(settings.model_copy(update={"compact_every": 1000}), {}) as sink:
        for offset, one in enumerate(many(9)):
            await sink.write(live([one], offset))
    frozen = DeltaTable(settings.uri)
    assert tidying.Tidying(settings, 0)._takes_turn(frozen, due=1)
    other = lake.Lake(settings)
    other.append(NO_ROWS, {"a": 1})
    tidying.Tidying(settings.model_copy(update={"compact_every": 1}), 0).tidy(other.version)
    assert len(DeltaTable(settings.uri).file_uris()) == 1
    with pytest.raises(CommitFailedError):
        frozen.optimize.compact()
    assert len(await event_ids(settings)) == 9


async def test_a_topic_begun_anew_is_told_by_its_epoch(settings: Settings) -> None:
    async with connect(settings, {}) as sink:
        await sink.write(live(many(20)))
    anew = settings.model_copy(update={"epoch": "2"})
    events = [*many(5), *(event(f"new-{number}") for number in range(5))]
    async with connect(anew, {}) as sink:
        await sink.write(live(events))
    await assert_exactly(settings, [*many(20), *events])
    assert len(await event_ids(settings)) == 25


async def test_a_storage_that_is_away_is_unavailable(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    away = settings.model_copy(update={"uri": str(tmp_path / "file" / "results")})
    with pytest.raises(SinkUnavailable):
        async with connect(away, {}):
            pass
    async with connect(settings, {}) as sink:
        await sink.write(live(many(3)))
        moved = shutil.move(settings.uri, tmp_path / "elsewhere")
        with pytest.raises(SinkUnavailable):
            await sink.write(live(many(6)[3:], 3))
        shutil.move(moved, settings.uri)
        await sink.write(live(many(6)))
    await assert_exactly(settings, many(6))


async def test_a_table_of_another_form_is_a_mistake_and_not_waited_for(settings: Settings) -> None:
    strange: Any = NO_ROWS.select(["event_id", "date"])
    write_deltalake(settings.uri, strange, partition_by=["date"])
    with pytest.raises(lake.UnfitTable):
        async with connect(settings, {}):
            pass


def test_the_documentation_names_every_group_and_setting() -> None:
    text = (Path(__file__).parents[2] / "docs" / "analytics.md").read_text()
    for name in [*conclusions.GROUPS, *(f"ANALYTICS_{field.upper()}" for field in Settings.model_fields)]:
        assert f"`{name}`" in text


async def test_asking_for_the_ids_makes_no_table(settings: Settings) -> None:
    assert await event_ids(settings) == []
    assert not DeltaTable.is_deltatable(settings.uri)


PROMISED = '{"id": "p", "slots": {"paymentTime": ["2024-08-15 07:00:00", "2024-08-15 12:00:00"]}}'


async def test_a_payment_time_is_there_in_utc_and_as_it_came(settings: Settings) -> None:
    demo = Merchant(name="demo", timezone=ZoneInfo("Asia/Kuala_Lumpur"))
    async with connect(settings, {"demo": demo}) as sink:
        await sink.write(live([from_body(PROMISED), from_body('{"id": "n", "slots": {"paymentTime": null}}')]))
    found = {row["record_id"]: [row[name] for name in PAYMENT] for row in rows(settings)}
    begins, ends = datetime(2024, 8, 14, 23, tzinfo=UTC), datetime(2024, 8, 15, 4, tzinfo=UTC)
    assert found == {"p": [begins, ends, "2024-08-15 07:00:00", "2024-08-15 12:00:00"], "n": [None] * 4}


PAYMENT = ["payment_from", "payment_to", "payment_from_local", "payment_to_local"]


async def test_a_table_of_an_older_version_gets_the_columns_that_came_since(settings: Settings) -> None:
    fields = [field for field in SCHEMA if field.name not in PAYMENT]
    DeltaTable.create(settings.uri, schema=Schema(fields), partition_by=["date"])
    old = Rows({}, b"").table([event("old")], np.array([microseconds(NOW)])).select([field.name for field in fields])
    write_deltalake(DeltaTable(settings.uri), old, mode="append")
    async with connect(settings, {}) as sink:
        await sink.write(live([event("new"), event("old"), from_body(PROMISED)]))
        await sink.write(replayed([event("merged")], [0]))
    table = DeltaTable(settings.uri)
    table.optimize.compact()
    assert {row["record_id"]: row["payment_from"] is None for row in rows(settings)} == {
        "old": True,
        "new": True,
        "p": False,
        "merged": True,
    }
    assert len(rows(settings)) == 4
    assert tuple(table.protocol())[:2] == (1, 2)
    versions = table.version()
    async with connect(settings, {}):
        assert DeltaTable(settings.uri).version() == versions
