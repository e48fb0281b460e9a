"""What operators do with the database: roles that may read no more than they should, and results that go in time."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner, Result

from consumers.sink import Delivery
from consumers.sinks.storage import Settings, connect, event_ids
from consumers.sinks.storage.migrate import migrate
from ops.storage import storage as command
from schemas.blu import BluRecord
from schemas.event import DialResult, dial_result
from schemas.exact import canonical
from tests.services import Database, run

PERSONAL = ("dial_result", "latest_result", "contact_history")
MASKED = ("dial_result_masked", "latest_result_masked", "contact_history_masked", "task_progress")
KNOWN = {"event_id", "merchant", "task_id", "record_id", "received_at", "source", "conclusion", "called_at"}


def event(number: int, received_at: datetime) -> DialResult:
    content = canonical({"id": number, "name": f"Made Up {number}", "mobile": "0177****3990", "extVars": {"debt": 7}})
    return dial_result("demo", "1", BluRecord(0, str(number), content), int(received_at.timestamp() * 1_000))


@dataclass(frozen=True)
class Server:
    dsn: str

    def command(self, *arguments: str, answer: str | None = None) -> Result:
        return CliRunner(env={"STORAGE_DSN": self.dsn}).invoke(command, arguments, input=answer)

    def query(self, sql: str, *arguments: object, dsn: str = "") -> list[asyncpg.Record]:
        async def ask() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(dsn or self.dsn)
            try:
                return list(await connection.fetch(sql, *arguments))
            finally:
                await connection.close()

        found: list[asyncpg.Record] = run(ask())
        return found

    def write(self, *events: DialResult, dsn: str = "") -> None:
        async def write() -> None:
            async with connect(Settings(dsn=dsn or self.dsn), {}) as sink:
                await sink.write([Delivery(one, "dial-results", 0, place) for place, one in enumerate(events)])

        run(write())

    def login(self, group: str) -> str:
        """Make an account in this group; return its DSN."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.query(f"CREATE ROLE {name} LOGIN PASSWORD 'made-up' IN ROLE {group}")
        return f"postgresql://{name}:made-up@{self.dsn.rpartition('@')[2]}"


@pytest.fixture
def server(postgres: Database) -> Server:
    dsn = postgres.fresh_database()
    run(migrate(dsn))
    return Server(dsn)


def test_what_was_changed_is_said_in_json(server: Server) -> None:
    assert json.loads(server.command("migrate", "--json").stdout) == {"dry_run": False, "changed": False, "sql": ""}
    dry = json.loads(server.command("roles", "--dry-run", "--json").stdout)
    done = json.loads(server.command("roles", "--json").stdout)
    assert (dry["dry_run"], done["dry_run"], dry["sql"] == done["sql"]) == (True, False, True)


def refused(server: Server, sql: str, dsn: str) -> bool:
    try:
        server.query(sql, dsn=dsn)
    except asyncpg.InsufficientPrivilegeError:
        return True
    return False


def test_each_role_reads_what_it_should_and_nothing_else(server: Server) -> None:
    assert server.command("roles").exit_code == 0
    assert server.command("roles").exit_code == 0, "a second time changes nothing"
    server.write(event(1, datetime.now(UTC)))
    reader, masked = server.login("dial_results_reader"), server.login("dial_results_reader_masked")
    for dsn, readable, secret in ((reader, PERSONAL + MASKED, ()), (masked, MASKED, PERSONAL)):
        for view in readable:
            assert len(server.query(f"TABLE {view}", dsn=dsn)) == 1, view
        for view in (*secret, "ops.schema_version", "ops.crm_ledger"):
            assert refused(server, f"TABLE {view}", dsn), view
        for change in ("DELETE FROM dial_result", "UPDATE dial_result SET name = ''", "CREATE TABLE mine (a int)"):
            assert refused(server, change, dsn), change
    for view in MASKED[:-1]:
        (row,) = server.query(f"TABLE {view}", dsn=masked)
        assert set(row.keys()) - {"newest_first"} == KNOWN
        assert not any("Made Up" in str(value) or "3990" in str(value) for value in row.values())


def test_the_writers_role_is_enough_for_the_consumer_and_for_no_more(server: Server) -> None:
    assert server.command("roles").exit_code == 0
    writer, now = server.login("dial_results_writer"), datetime.now(UTC)
    server.write(event(1, now), event(2, now), dsn=writer)
    server.write(event(2, now), event(3, now), dsn=writer)  # a repeat: the way by the temporary table
    assert len(server.query("SELECT event_id FROM dial_result")) == 3
    erase = "LOCK TABLE dial_result IN SHARE ROW EXCLUSIVE MODE; DELETE FROM dial_result WHERE record_id = 'none'"
    server.query(f"DO $$ BEGIN {erase}; END $$", dsn=writer)
    for sql in ("TRUNCATE dial_result", "UPDATE dial_result SET name = ''", "SELECT * FROM ops.crm_ledger"):
        assert refused(server, sql, writer), sql
    assert refused(server, "UPDATE ops.schema_version SET version_num = '9'", writer)


def test_roles_are_shown_first_and_need_the_views(postgres: Database, server: Server) -> None:
    shown = server.command("roles", "--dry-run")
    assert (shown.exit_code, "GRANT SELECT" in shown.output) == (0, True)
    empty = Server(postgres.fresh_database()).command("roles")
    assert (empty.exit_code, "migrate" in empty.output) == (1, True)


def test_old_results_go_in_steps_and_nothing_else(server: Server) -> None:
    now = datetime.now(UTC)
    old = [event(number, now - timedelta(days=401, minutes=number)) for number in range(25)]
    young = [event(number, now - timedelta(days=399)) for number in range(100, 110)]
    server.write(*old, *young)

    def ids() -> list[str]:
        found: list[str] = run(event_ids(Settings(dsn=server.dsn)))
        return sorted(found)

    def said(*arguments: str, **more: Any) -> dict[str, Any]:
        result = server.command("retain", "--older-than", "400d", "--json", *arguments, **more)
        assert result.exit_code == 0, result.output
        return dict(json.loads(result.stdout))

    everything = ids()
    counted = said("--dry-run")
    assert (counted["found"], counted["deleted"], ids()) == (25, 0, everything)
    declined = server.command("retain", "--older-than", "400d", answer="n\n")
    assert (declined.exit_code, ids()) == (1, everything)
    gone = said("--yes", "--batch", "10")
    assert (gone["found"], gone["deleted"]) == (25, 25)
    assert ids() == sorted(one.event_id for one in young)
    assert said("--yes")["found"] == 0
    progress = server.command("retain", "--older-than", "30d", "--batch", "4", answer="y\n")
    assert [line for line in progress.stderr.splitlines() if " of " in line and "?" not in line][-1] == (
        "storage: 10 of 10"
    )


def test_what_kafka_would_bring_back_is_not_deleted(server: Server) -> None:
    result = server.command("retain", "--older-than", "27d", "--yes")
    assert (result.exit_code, "bring them back" in result.output) == (2, True)
    away = CliRunner().invoke(
        command, ["retain", "--older-than", "400d", "--yes", "--dsn", "postgresql://nobody:secret@127.0.0.1:1/none"]
    )
    assert (away.exit_code, "secret" in away.output) == (75, False)


async def test_a_database_of_the_first_revision_is_brought_on_with_its_rows(postgres: Database) -> None:
    dsn = await asyncio.to_thread(postgres.fresh_database)
    script = await migrate(dsn, dry_run=True)
    first, _, _ = script.partition("-- Running upgrade 0001 -> 0002")
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(first + "COMMIT;")
        await connection.execute(
            "INSERT INTO dial_result VALUES (gen_random_uuid(), 'demo', '1', '7', now(), 'callback', 'A', 'B', 'C', "
            "now(), null, null, '{}')"
        )
        second = await migrate(dsn)
        assert "CREATE TABLE dial_result" not in second
        assert len(await connection.fetch("SELECT * FROM latest_result_masked")) == 1
    finally:
        await connection.close()
