"""Where operators' commands find things, and the audit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from consumers.sinks.storage.migrate import migrate
from ops import audit
from ops.places import DatabaseAway, Places, database, with_places
from ops.standalone.folder import DataFolder
from tests.services import Database, free_port

VARIABLES = ("KAFKA_BOOTSTRAP_SERVERS", "STORAGE_DSN", "ANALYTICS_URI", "CRM_URL", "CONSUMER_MERCHANTS_FILE")


def found(*arguments: str, **environment: str) -> Any:
    @click.command()
    @with_places
    def show(places: Places) -> None:
        click.echo(json.dumps([places.kafka["bootstrap_servers"], places.postgres_dsn, str(places.merchants_file)]))

    answer = CliRunner().invoke(show, arguments, env=dict.fromkeys(VARIABLES) | environment)
    return json.loads(answer.stdout) if answer.exit_code == 0 else answer.output


@pytest.fixture
def up(tmp_path: Path) -> Path:
    says = {"kafka_bootstrap_servers": "127.0.0.1:1", "postgres_dsn": "postgresql://up", "analytics_uri": "a"}
    folder = tmp_path / "dial-results"
    folder.mkdir()
    DataFolder(folder).write("up.json", says | {"crm_url": "c", "receiver_admin_url": "r"})
    return folder


def test_a_folder_that_is_named_wins_then_the_environment_then_the_last_up(up: Path, tmp_path: Path) -> None:
    of_up = ["127.0.0.1:1", "postgresql://up", str(up / "merchants.toml")]
    set_here = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:2", "STORAGE_DSN": "postgresql://environment"}
    assert found("--data", str(up), **set_here) == of_up
    assert found(**set_here, XDG_DATA_HOME=str(tmp_path)) == ["127.0.0.1:2", "postgresql://environment", "None"]
    assert found(XDG_DATA_HOME=str(tmp_path)) == of_up
    assert found(XDG_DATA_HOME=str(tmp_path / "none")) == ["127.0.0.1:9092", None, "None"]
    assert "no `up` has run" in found("--data", str(tmp_path / "none"))


async def test_an_entry_of_the_audit_says_who_what_when_and_how_many(postgres: Database) -> None:
    dsn = postgres.fresh_database()
    await migrate(dsn)
    async with database(dsn) as connection:
        entry = await audit.record(connection, "replay", {"to": "crm", "merchant": ["demo"]}, {"sent": 3})
        row = await connection.fetchrow("SELECT *, now() - at < '1 min' AS fresh FROM ops.audit WHERE id = $1", entry)
    assert (row["who"], row["command"], row["fresh"]) == (audit.who(), "replay", True)
    assert json.loads(row["arguments"]) == {"to": "crm", "merchant": ["demo"]}
    assert json.loads(row["counts"]) == {"sent": 3}


async def test_a_database_that_is_away_or_not_migrated_is_said(postgres: Database) -> None:
    with pytest.raises(DatabaseAway, match="storage migrate"):
        async with database(postgres.fresh_database()):
            pass
    with pytest.raises(DatabaseAway, match="does not answer"):
        async with database(f"postgresql://u:p@127.0.0.1:{free_port()}/none"):
            pass
