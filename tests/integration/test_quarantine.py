"""`dial-results quarantine` over a real broker and a real database: grouped, tried, resubmitted once, exported."""

from __future__ import annotations

import json
import socket
import stat
import time
from asyncio import to_thread
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner, Result

from consumers.sinks.storage.migrate import migrate
from ops.blu.bodies import Callback, callbacks
from ops.quarantine import quarantine
from receiver.journal import JournaledCallback
from receiver.window import records_of
from schemas import topics, wire
from schemas.event import event_id
from tests.integration.test_receiver_publisher import ensure_topics, reading
from tests.services import Broker, Database, run

RECEIVED_MS = time.time_ns() // 1_000_000 - 3_600_000  # Kafka forgets what is weeks old, and takes no time to come
RULE = 'about = "GBK"\nencoding = "gbk"\n'
CANARY = "陈伟强"


def garbled(count: int) -> list[tuple[Callback, bytes]]:
    """Callbacks whose bodies came in GBK."""
    found = []
    for callback in callbacks(11, date(2026, 11, 24), ZoneInfo("UTC"), 10_000):
        try:
            body = callback.body.decode().encode("gbk")
            body.decode()
        except UnicodeEncodeError:
            continue
        except UnicodeDecodeError:
            found.append((callback, body))
        if len(found) == count:
            break
    return found


async def quarantined(broker: Broker, *bodies: bytes, merchant: str = "demo") -> list[str]:
    """Put bodies into the quarantine as the receiver does; return their places."""
    places = []
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        for number, body in enumerate(bodies):
            callback = JournaledCallback(number, RECEIVED_MS + number, merchant, body)
            for outgoing in records_of(callback):
                if outgoing.topic == topics.QUARANTINE:
                    key, value, headers, timestamp_ms = outgoing.record
                    sent = await producer.send_and_wait(
                        topics.QUARANTINE, value, key, timestamp_ms=timestamp_ms, headers=headers
                    )
                    places.append(f"{sent.partition}:{sent.offset}")
    return places


Run = Callable[..., Result]


@pytest.fixture
def database(postgres: Database) -> str:
    dsn = postgres.fresh_database()
    run(migrate(dsn))
    return dsn


@pytest.fixture
def command(own_broker: Broker, database: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    run(ensure_topics(own_broker))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", own_broker.bootstrap_servers)
    monkeypatch.setenv("STORAGE_DSN", database)
    return lambda *arguments: CliRunner().invoke(quarantine, arguments, catch_exceptions=False)


@pytest.fixture
def rule(tmp_path: Path) -> str:
    path = tmp_path / "gbk.toml"
    path.write_text(RULE)
    return str(path)


def rows(dsn: str, query: str, *values: Any) -> list[Any]:
    async def fetch() -> list[Any]:
        connection = await asyncpg.connect(dsn)
        try:
            return list(await connection.fetch(query, *values))
        finally:
            await connection.close()

    return list(run(fetch()))


def test_what_a_rule_mends_is_published_once_with_its_own_time_and_id(
    own_broker: Broker, command: Run, database: str, rule: str
) -> None:
    bodies = garbled(30)
    places = run(quarantined(own_broker, *(body for _, body in bodies), b"?!", merchant="mended"))
    of_it = ("--merchant", "mended")
    tried = command("try", *of_it, "--json")
    assert (tried.exit_code, json.loads(tried.stdout)["reasons"]) == (1, {"not-utf8": 30, "not-json": 1})
    tried = command("try", *of_it, "--rules", rule, "--reason", "not-utf8", "--limit", "30")
    assert tried.exit_code == 0, tried.output
    expected = {event_id("mended", callback.task_id, callback.record_id, callback.canonical) for callback, _ in bodies}
    assert all(event in tried.stdout for event in expected)
    assert "30 bodies can be read" in tried.stderr
    resubmit = ("resubmit", *of_it, "--rules", rule)
    assert command(*resubmit, "--dry-run").exit_code == 1
    assert command(*resubmit, "--json").exit_code == 75, "not confirmed"
    assert not rows(database, "SELECT FROM ops.audit UNION ALL SELECT FROM ops.quarantine_state")

    done = command(*resubmit, "--yes", "--json")
    said = json.loads(done.stdout)
    assert (done.exit_code, said["published"], said["published_results"], said["still_unreadable"]) == (1, 30, 30, 1)
    again = command(*resubmit, "--yes", "--json")
    assert (json.loads(again.stdout)["skipped"], json.loads(again.stdout)["published"]) == (30, 0)

    found = [record for record in run(everything(own_broker)) if record.key.startswith(b"mended:")]
    events = {event.event_id: event for event in (wire.decode(record.value) for record in found)}
    assert (set(events), len(found)) == (expected, 30)
    assert {record.timestamp for record in found} == {RECEIVED_MS + number for number in range(30)}
    assert {event.source for event in events.values()} == {"callback"}
    assert all(record.partition == topics.partition_of(record.key, topics.PARTITIONS) for record in found)
    state = rows(database, 'SELECT partition, "offset", event_ids, state, resubmit_id FROM ops.quarantine_state')
    assert {f"{row[0]}:{row[1]}" for row in state} == set(places[:30])
    assert {str(one) for row in state for one in row["event_ids"]} == expected
    (entry,) = rows(database, "SELECT * FROM ops.audit WHERE command = 'quarantine resubmit'")
    assert {row["resubmit_id"] for row in state} == {str(entry["id"])}
    assert json.loads(entry["counts"])["bodies"] == 30
    assert json.loads(entry["arguments"])["rule"]["encoding"] == "gbk"


async def everything(broker: Broker) -> list[Any]:
    async with reading(broker, topics.DIAL_RESULTS) as reader:
        partitions = sorted(reader.consumer.assignment())
        ends = await reader.consumer.end_offsets(partitions)
        await reader.consumer.seek_to_beginning(*partitions)
        return list(await reader.until(lambda records: len(records) >= sum(ends.values())))


def test_groups_by_reason_and_shape_and_shows_nobody(own_broker: Broker, command: Run, database: str) -> None:
    bodies = [f'{{"taskId":{n},"records":[{{"id":{n},"name":"{CANARY}{n}"}}]}}'.encode("gbk") for n in range(5)]
    strange = f'{{"taskId":1,"records":[{{"custId":1,"name":"{CANARY}\x1b[2J"}}]}}'.encode()
    places = run(quarantined(own_broker, *bodies, strange, merchant="grouped"))
    listed = command("list", "--merchant", "grouped", "--json")
    groups = json.loads(listed.stdout)
    assert [(group["reason"], group["bodies"], group["open"]) for group in groups] == [
        ("not-utf8", 5, 5),
        ("not-json", 1, 1),
    ]
    assert groups[0]["shape"] == '{"taskId":0,"records":[{"id":0,"name":"…"}]}'
    assert groups[0]["merchants"] == {"grouped": 5}
    assert groups[0]["first"] == wire.timestamp(datetime.fromtimestamp(RECEIVED_MS / 1_000, UTC))
    shown = command("show", places[5])
    assert '"name": "…13"' in shown.stdout.replace('":"', '": "')
    texts = [listed.output, shown.output, command("list").output, command("try", "--merchant", "grouped").output]
    assert CANARY not in "".join(texts)
    assert not rows(database, "SELECT FROM ops.audit")

    unmasked = command("show", places[5], "--unmask")
    assert CANARY in unmasked.stdout
    assert "\x1b" not in unmasked.stdout, "it could write to the terminal what it likes"
    (entry,) = rows(database, "SELECT command, arguments FROM ops.audit")
    assert (entry["command"], json.loads(entry["arguments"])["place"]) == ("quarantine show", places[5])
    only = command("try", "--id", groups[1]["id"], "--json")
    assert json.loads(only.stdout)["reasons"] == {"not-json": 1}


def test_bytes_are_exported_as_they_came_for_their_owner_alone(
    own_broker: Broker, command: Run, database: str, tmp_path: Path
) -> None:
    body = b"\xff\x00" + CANARY.encode("gbk")
    (place,) = run(quarantined(own_broker, body, merchant="exported"))
    folder = tmp_path / "out"
    written = command("export", place, "--to", str(folder))
    assert written.exit_code == 0, written.output
    (file,) = folder.iterdir()
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (body, 0o600)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert rows(database, "SELECT FROM ops.audit WHERE command = 'quarantine export'")
    assert command("export", place, "--to", str(folder)).exit_code == 1, "nothing is overwritten"


def test_one_bad_record_of_many_is_mended_alone(own_broker: Broker, command: Run, tmp_path: Path) -> None:
    body = b'{"taskId":1,"records":[{"id":"good-1"},{"custId":"bad-2"},{"id":"good-3"}]}'
    run(quarantined(own_broker, body, merchant="several"))
    file = tmp_path / "rename.toml"
    file.write_text('[rename.record]\ncustId = "id"\n')
    done = command("resubmit", "--merchant", "several", "--rules", str(file), "--yes", "--json")
    assert (done.exit_code, json.loads(done.stdout)["published_results"]) == (0, 1)
    keys = {record.key for record in run(everything(own_broker)) if record.key.startswith(b"several:")}
    assert keys == {b"several:bad-2"}


def test_two_do_not_resubmit_at_once(command: Run, database: str) -> None:
    async def while_held() -> Result:
        connection = await asyncpg.connect(database)
        try:
            lock = "SELECT pg_advisory_lock(hashtextextended('dial-results quarantine resubmit', 0))"
            await connection.execute(lock)
            return await to_thread(command, "resubmit", "--yes")
        finally:
            await connection.close()

    refused = run(while_held())
    assert (refused.exit_code, "another resubmit is running" in refused.stderr) == (75, True)


def test_what_is_away_is_said(
    command: Run, own_broker: Broker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    away = command("list")
    assert (away.exit_code, "Kafka does not answer" in away.stderr) == (75, True)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr("ops.ending._CONNECT_S", 0.5)
        away = command("list")
    assert (away.exit_code, "Kafka does not answer" in away.stderr) == (75, True), "not PostgreSQL"
    assert command("show", "nonsense").exit_code == 2
    file = tmp_path / "rule.toml"
    file.write_text('encoding = "utf-7"')
    wrong = command("try", "--rules", str(file))
    assert (wrong.exit_code, "encoding" in wrong.output) == (2, True)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", own_broker.bootstrap_servers)
    assert command("show", "0:999999999").exit_code == 2
