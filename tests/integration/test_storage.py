from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from alembic.script import ScriptDirectory
from click.testing import CliRunner

from consumers.sink import Delivery, EventsRejected, SinkUnavailable
from consumers.sinks.storage import Settings, StorageSink, connect, event_ids
from consumers.sinks.storage.database import Database
from consumers.sinks.storage.migrate import MIGRATIONS, migrate
from consumers.sinks.storage.rows import COLUMNS, Row, Rows
from consumers.sinks.storage.schema import HEAD, schema_is_current
from ops.storage import storage as command
from schemas.blu import BluRecord
from schemas.event import DialResult, dial_result
from schemas.exact import canonical, decode
from schemas.mapping import mapped, newest_key
from tests.services import Database as Server

RECEIVED_MS = 1_795_513_596_123


def event(record_id: str = "7", task_id: str = "1", received_ms: int = RECEIVED_MS, **fields: Any) -> DialResult:
    source = fields.pop("source", "callback")
    content = canonical(decode(json.dumps({"id": record_id} | fields)))
    return dial_result("demo", task_id, BluRecord(0, record_id, content), received_ms, source=source)


def deliveries(*events: DialResult) -> list[Delivery]:
    return [Delivery(one, "dial-results", 0, offset) for offset, one in enumerate(events)]


@pytest.fixture
async def settings(postgres: Server) -> Settings:
    dsn = await asyncio.to_thread(postgres.fresh_database)
    await migrate(dsn)
    return Settings(dsn=dsn)


async def query(settings: Settings, sql: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(settings.dsn.get_secret_value())
    try:
        return list(await connection.fetch(sql, *arguments))
    finally:
        await connection.close()


async def test_a_row_says_what_the_event_says_and_no_digit_changes(settings: Settings) -> None:
    content = (
        b'{"id":7,"name":"Bob","mobile":"0177****3990","extVars":{"rate":1.50,"huge":1e400,"n":%d},"callVars":null,'
        b'"conclusion":"HPTP","callTime":"2026-11-24 03:00:00","zero":"\\u0000"}' % 10**30
    )
    one = dial_result("demo", "66635573", BluRecord(0, "7", content), RECEIVED_MS)
    async with connect(settings, {}) as sink:
        await sink.write(deliveries(one))
    (row,) = await query(settings, "SELECT * FROM dial_result")
    assert (
        " ".join(row.keys()) == "event_id merchant task_id record_id received_at source name mobile conclusion "
        "called_at ext_vars call_vars record"
    )
    assert str(row["event_id"]) == one.event_id
    assert tuple(row)[1:10] == (
        "demo",
        "66635573",
        "7",
        datetime(2026, 11, 24, 9, 46, 36, 123000, tzinfo=UTC),
        "callback",
        "Bob",
        "0177****3990",
        "HPTP",
        datetime(2026, 11, 24, 3, tzinfo=UTC),
    )
    assert row["ext_vars"] == '{"rate":1.50,"huge":1e400,"n":1000000000000000000000000000000}'
    assert row["call_vars"] is None
    assert row["record"].encode() == content


async def test_a_nul_leaves_a_text_column_empty_but_rejects_an_id(settings: Settings) -> None:
    named = event("1", name="A\0B", mobile="\0", conclusion="x\0")
    unkeepable = event("2\0")
    fine = event("3")
    async with connect(settings, {}) as sink:
        with pytest.raises(EventsRejected) as rejected:
            await sink.write(deliveries(named, unkeepable, fine))
    assert rejected.value.reasons == {unkeepable.event_id: "sqlstate-22021"}
    rows = await query(settings, "SELECT record_id, name, mobile, conclusion, record FROM dial_result ORDER BY 1")
    assert [tuple(row)[:4] for row in rows] == [("1", None, None, None), ("3", None, None, None)]
    assert json.loads(rows[0]["record"])["name"] == "A\0B"


async def test_a_megabyte_is_a_name_like_any_other(settings: Settings) -> None:
    async with connect(settings, {}) as sink:
        await sink.write(deliveries(event(name="x" * 1_000_000, extVars={"note": "y" * 1_000_000})))
    (row,) = await query(settings, "SELECT length(name) name, length(record::text) record FROM dial_result")
    assert row["name"] == 1_000_000
    assert row["record"] > 2_000_000


async def test_bad_rows_are_found_alone_in_a_large_batch_with_duplicates(settings: Settings) -> None:
    good = [event(str(number)) for number in range(700)]
    bad = [event(f"bad\0{number}") for number in range(5)] + [event("".join(random.choices("abcdefgh", k=9_000)))]
    batch = good + bad + good[:50]
    random.Random(1).shuffle(batch)
    async with connect(settings, {}) as sink:
        await sink.write(deliveries(*good[:100]))
        with pytest.raises(EventsRejected) as rejected:
            await sink.write(deliveries(*batch))
        await sink.write(deliveries(*good))
    assert set(rejected.value.reasons) == {one.event_id for one in bad}
    assert set(rejected.value.reasons.values()) == {"sqlstate-22021", "sqlstate-54000"}
    assert sorted(await event_ids(settings)) == sorted(one.event_id for one in good)


async def test_latest_result_and_contact_history_follow_the_one_rule(settings: Settings) -> None:
    choices = random.Random(7)
    events = [
        event(
            str(choices.randrange(6)),
            str(choices.randrange(3)),
            RECEIVED_MS + choices.randrange(4) * 1_000,
            source=choices.choice(["callback", "reconcile"]),
            **({"callTime": f"2026-11-24 09:46:3{choices.randrange(10)}"} if choices.random() < 0.5 else {}),
            n=number,
        )
        for number in range(300)
    ]
    async with connect(settings, {}) as sink:
        await sink.write(deliveries(*events))

    def key(one: DialResult) -> Any:
        return newest_key(one, mapped(one.record(), None).called_at)

    expected = {
        contact: [one.event_id for one in sorted(events, key=key, reverse=True) if one.record_id == contact]
        for contact in {one.record_id for one in events}
    }
    latest = await query(settings, "SELECT record_id, event_id FROM latest_result WHERE merchant = 'demo'")
    assert {row["record_id"]: str(row["event_id"]) for row in latest} == {
        contact: ids[0] for contact, ids in expected.items()
    }
    history = await query(settings, "SELECT record_id, event_id FROM contact_history ORDER BY record_id, newest_first")
    assert [str(row["event_id"]) for row in history] == [
        one for contact in sorted(expected) for one in expected[contact]
    ]


async def test_of_a_repeat_the_first_receipt_counts_within_a_batch_and_between_two(settings: Settings) -> None:
    first, again, later = (event(received_ms=RECEIVED_MS + ms) for ms in (0, 1_000, 2_000))
    assert first.event_id == again.event_id == later.event_id
    async with connect(settings, {}) as sink:
        await sink.write(deliveries(first, again))
        await sink.write(deliveries(later))
    (row,) = await query(settings, "SELECT received_at FROM dial_result")
    assert row["received_at"] == first.received_at


async def test_repeats_are_asked_for_once_they_come_and_no_longer_when_all_is_new(settings: Settings) -> None:
    events = [event(str(number)) for number in range(600)]
    async with connect(settings, {}) as sink:
        await sink.write(deliveries(*events[:100]))
        before = await _refusals(sink)
        await sink.write(deliveries(*events[50:200]))
        refused = await _refusals(sink)
        assert refused == before + 1
        for begin in range(0, 200, 40):
            await sink.write(deliveries(*events[begin : begin + 60]))
        assert await _refusals(sink) == refused, "what is known is not sent"
        for begin in range(220, 600, 10):
            await sink.write(deliveries(*events[begin : begin + 10]))
        assert not sink._repeats
    assert sorted(await event_ids(settings)) == sorted(one.event_id for one in events)


async def _refusals(sink: StorageSink) -> int:
    """Count the transactions that the server rolled back."""
    connection = await sink._database.connected()
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with asyncio.timeout(60):
        while await connection.fetchval(others):  # one that ends has counted before it is gone
            await asyncio.sleep(0.01)
    await connection.execute("SELECT pg_stat_force_next_flush()")
    return int(
        await connection.fetchval("SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()")
    )


async def test_task_progress_counts_results_and_contacts(settings: Settings) -> None:
    async with connect(settings, {}) as sink:
        await sink.write(
            deliveries(
                event("1", n=1, conclusion="AP"),
                event("1", n=2),
                event("2", received_ms=RECEIVED_MS + 5_000, source="reconcile"),
                event("3", task_id="2", rate=str(Decimal("1.50"))),
            )
        )
    first, second = await query(settings, "SELECT * FROM task_progress ORDER BY task_id")
    assert (first["results"], first["contacts"]) == (3, 2)
    assert (first["results_with_conclusion"], first["results_reconciled"]) == (1, 1)
    assert (first["last_received_at"] - first["first_received_at"]).total_seconds() == 5
    assert (second["results"], second["contacts"]) == (1, 1)


async def test_a_lost_connection_is_a_matter_of_the_moment(settings: Settings) -> None:
    first, second = event("1"), event("2")
    async with connect(settings, {}) as sink:
        await sink.write(deliveries(first))
        await query(
            settings,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dial-results storage' "
            "AND datname = current_database()",
        )
        with suppress(SinkUnavailable):  # unless the cut is noticed first, and mended without a word
            await sink.write(deliveries(first, second))
        await sink.write(deliveries(first, second))
    assert sorted(await event_ids(settings)) == sorted([first.event_id, second.event_id])


async def test_a_connection_that_is_lost_in_the_middle_of_a_write_costs_no_row(settings: Settings) -> None:
    chance, events = random.Random(5), []
    killer = await asyncpg.connect(settings.dsn.get_secret_value())
    cut = 0
    async with connect(settings, {}) as sink:
        for turn in range(12):
            some = [event(f"{turn}-{number}") for number in range(3_000)]
            events += some
            writing = asyncio.create_task(sink.write(deliveries(*some)))
            await asyncio.wait((writing,), timeout=chance.uniform(0.0, 0.1))
            await killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'dial-results storage' AND datname = current_database()"
            )
            try:
                await writing
            except SinkUnavailable:
                cut += 1
                await _until_taken(sink, some)
    await killer.close()
    assert cut, "no write was ever cut"
    assert sorted(await event_ids(settings)) == sorted(one.event_id for one in events)


async def _until_taken(sink: StorageSink, events: list[DialResult]) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                return await sink.write(deliveries(*events))
            except SinkUnavailable:
                continue


async def test_two_writers_of_the_same_rows_never_wait_in_a_circle(settings: Settings) -> None:
    async with connect(settings, {}) as first, connect(settings, {}) as second:
        for begin in range(0, 20_000, 4_000):
            batch = deliveries(*(event(str(number)) for number in range(begin, begin + 4_000)))
            await asyncio.gather(first.write(batch), second.write(batch[::-1]))
    assert len(await event_ids(settings)) == 20_000


async def test_a_table_that_is_locked_for_long_is_unavailable(settings: Settings) -> None:
    impatient = Settings(dsn=settings.dsn, write_timeout_s=0.3)
    holder = await asyncpg.connect(settings.dsn.get_secret_value())
    async with connect(impatient, {}) as sink:
        async with holder.transaction():
            await holder.execute("LOCK TABLE dial_result")
            with pytest.raises(SinkUnavailable):
                await sink.write(deliveries(event()))
        await holder.close()
        await _until_taken(sink, [event()])
    assert await event_ids(settings) == [event().event_id]


async def test_what_a_frozen_writer_began_keeps_nobody_waiting_for_ever(settings: Settings) -> None:
    impatient = Settings(dsn=settings.dsn, write_timeout_s=1.0)
    frozen = Database(impatient)
    connection = await frozen.connected()
    transaction = connection.transaction()
    await transaction.start()
    await connection.copy_records_to_table("dial_result", records=[Rows({}).row(event())], columns=COLUMNS)
    async with connect(impatient, {}) as sink, asyncio.timeout(60):
        while True:
            try:
                await sink.write(deliveries(event()))
                break
            except SinkUnavailable:
                continue
    assert await event_ids(settings) == [event().event_id]
    frozen.drop()


async def test_what_a_writer_that_froze_in_the_middle_of_a_copy_holds_keeps_nobody_waiting_for_ever(
    settings: Settings,
) -> None:
    impatient = Settings(dsn=settings.dsn, write_timeout_s=1.0)
    frozen = Database(Settings(dsn=settings.dsn, write_timeout_s=600.0))
    connection = await frozen.connected()
    sent = asyncio.Event()

    async def rows() -> AsyncIterator[Row]:
        for number in range(7, 2_007):  # the server puts them into the index a thousand at a time
            yield Rows({}).row(event(str(number)))
        yield Rows({}).row(event("big", text="x" * 600_000))  # asyncpg sends half a megabyte at a time
        sent.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(connection.copy_records_to_table("dial_result", records=rows(), columns=COLUMNS))
    await sent.wait()
    async with connect(impatient, {}) as sink, asyncio.timeout(60):
        while True:
            try:
                await sink.write(deliveries(event()))
                break
            except SinkUnavailable:
                continue
    assert await event_ids(settings) == [event().event_id]
    writing.cancel()
    with suppress(asyncio.CancelledError, asyncpg.PostgresError, OSError):
        await writing
    frozen.drop()


async def test_durable_even_where_the_database_defaults_to_less(settings: Settings) -> None:
    name = settings.dsn.get_secret_value().rpartition("/")[2]
    await query(settings, f"ALTER DATABASE {name} SET synchronous_commit = off")
    async with connect(settings, {}) as sink:
        connection = await sink._database.connected()
        assert await connection.fetchval("SHOW synchronous_commit") == "on"


async def test_refuses_a_database_that_nobody_migrated_and_says_what_to_do(postgres: Server) -> None:
    dsn = await asyncio.to_thread(postgres.fresh_database)
    assert not await schema_is_current(dsn)
    with pytest.raises(SinkUnavailable, match="dial-results storage migrate"):
        async with connect(Settings(dsn=dsn), {}):
            pass


def test_the_newest_migration_is_the_one_that_the_sink_wants() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD


def test_the_command_shows_the_sql_then_runs_it_then_has_nothing_to_do(postgres: Server) -> None:
    dsn = postgres.fresh_database()
    runner = CliRunner(env={"STORAGE_DSN": dsn})
    shown = runner.invoke(command, ["migrate", "--dry-run"])
    assert shown.exit_code == 0
    assert "CREATE TABLE dial_result" in shown.output
    assert not asyncio.run(schema_is_current(dsn))
    assert runner.invoke(command, ["migrate"]).exit_code == 0
    assert asyncio.run(schema_is_current(dsn))
    again = runner.invoke(command, ["migrate"])
    assert (again.exit_code, "already" in again.output) == (0, True)
    assert runner.invoke(command, ["migrate", "--dry-run"]).output == "-- nothing to do\n"


def test_the_command_says_when_the_database_is_away_and_when_it_has_none() -> None:
    away = CliRunner().invoke(command, ["migrate", "--dsn", "postgresql://nobody:secret@127.0.0.1:1/none"])
    assert away.exit_code == 75
    assert "secret" not in away.output
    assert CliRunner(env={"STORAGE_DSN": ""}).invoke(command, ["migrate"]).exit_code == 2


async def test_two_migrations_at_once_are_one(postgres: Server) -> None:
    dsn = await asyncio.to_thread(postgres.fresh_database)
    scripts = await asyncio.gather(*(migrate(dsn) for _ in range(3)))
    assert sorted(map(bool, scripts)) == [False, False, True]
