"""`dial-results erase`: counts, asks, waits for receipts, and says what stays."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from consumers.receipts import PostgresReceipts
from consumers.sinks import storage
from consumers.sinks.storage.migrate import migrate
from ops import ending, erase
from ops.places import Places
from tests.services import Broker, Database

from .delivery import Kafka, event, own_topics, running, until_committed


@pytest.fixture
async def kafka(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kafka]:
    async with own_topics(broker.bootstrap_servers, monkeypatch, "storage") as found:
        yield found


@pytest.fixture
async def dsn(postgres: Database) -> str:
    dsn = postgres.fresh_database()
    await migrate(dsn)
    return dsn


class Storage:
    def __init__(self, dsn: str) -> None:
        self._settings = storage.Settings(dsn=dsn)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        async with storage.connect(self._settings, {}) as sink:
            yield sink


async def said(
    kafka: Kafka, dsn: str, capsys: Any, *, dry_run: bool = False, yes: bool = True, wait_s: float = 120
) -> Any:
    places = Places({"bootstrap_servers": kafka.bootstrap_servers}, dsn)
    code = await erase._Run(places, "demo", "7", as_json=True).all(("storage",), wait_s, dry_run=dry_run, yes=yes)
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


async def test_it_counts_erases_and_returns_with_the_receipt(kafka: Kafka, dsn: str, capsys: Any) -> None:
    sink = Storage(dsn)
    async with running(kafka, sink, name="storage", receipts=PostgresReceipts(dsn, "storage")):
        await kafka.publish([event(7), event(7, "again"), event(8)])
        await until_committed(kafka, "storage")
        code, dry = await said(kafka, dsn, capsys, dry_run=True)
        assert (code, dry["counts"]["storage_rows"]) == (0, 2)
        code, done = await said(kafka, dsn, capsys)
        assert (code, done["missing"], [one["consumer"] for one in done["receipts"]]) == (0, [], ["storage"])
    connection = await asyncpg.connect(dsn)
    rows = [row[0] for row in await connection.fetch("SELECT record_id FROM dial_result")]
    (entry,) = await connection.fetch("SELECT command, counts FROM ops.audit")
    await connection.close()
    assert rows == ["8"]
    assert (entry["command"], json.loads(entry["counts"])["storage_rows"]) == ("erase", 2)


async def test_without_a_confirmation_or_a_receipt_it_is_later(kafka: Kafka, dsn: str, capsys: Any) -> None:
    with pytest.raises(ending.NotNow, match="not confirmed"):
        await said(kafka, dsn, capsys, yes=False)
    code, done = await said(kafka, dsn, capsys, wait_s=0)
    assert (code, done["missing"]) == (75, ["storage"])
    await kafka.publish([event(7), event(8)])  # the consumer was down: it learns of it before its first write
    async with running(kafka, Storage(dsn), name="storage", receipts=PostgresReceipts(dsn, "storage")):
        await until_committed(kafka, "storage")
    connection = await asyncpg.connect(dsn)
    assert [row[0] for row in await connection.fetch("SELECT record_id FROM dial_result")] == ["8"]
    await connection.close()
