from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from consumers.sinks.crm import Settings, connect
from consumers.sinks.storage.migrate import migrate
from tests.crm import TOKEN, called, deliveries, sandbox
from tests.services import Database

from .delivery import Kafka, ended, own_topics, process


async def dry_run(kafka: Kafka, *arguments: str, **environment: str) -> tuple[int, list[Any], str]:
    one = await asyncio.to_thread(process, kafka, "crm", "--dry-run", *arguments, **environment)
    out, err = await asyncio.to_thread(one.communicate, timeout=120)
    return one.returncode, [json.loads(line) for line in out.decode().splitlines()], err.decode()


async def test_a_dry_run_prints_masked_what_would_be_sent_and_changes_nothing(
    broker: Any, postgres: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dsn = await asyncio.to_thread(postgres.fresh_database)
    await migrate(dsn)
    done, older, newer = (called("55667448", minute, name="Canary", mobile="138****0101") for minute in (1, 2, 3))
    other = called("77", 1, name="Canary", conclusion="KPTP")
    async with (
        sandbox(tmp_path / "state") as crm,
        own_topics(broker.bootstrap_servers, monkeypatch, "crm") as kafka,
    ):
        environment = {"CRM_URL": crm.url, "CRM_TOKEN": TOKEN, "CRM_LEDGER_DSN": dsn}
        async with connect(Settings(url=crm.url, token=TOKEN, ledger_dsn=dsn), {}) as sink:
            await sink.write(deliveries(done))
        before = [await crm.effects(), len(await crm.calls()), await rows(dsn)]
        await kafka.publish([done, older, newer, other])
        code, lines, said = await dry_run(kafka, **environment)
        sent = {line["event_id"]: line for line in lines if "event_id" in line}
        assert (code, sent.keys()) == (0, {newer.event_id, other.event_id}), said
        counts = [line for line in lines if "event_id" not in line]
        assert sum(line["events"] for line in counts) == 4
        assert sum(line["would_send"] for line in counts) == 2
        (body,) = sent[other.event_id]["body"]["inputs"]
        assert body["id"] == "demo:7***"
        assert (body["properties"]["dial_result_name"], body["properties"]["dial_result_conclusion"]) == (
            "C***",
            "KPTP",
        )
        assert not [word for word in ("Canary", "0101", "55667448", TOKEN) if word in json.dumps(lines) + said]
        assert [await crm.effects(), len(await crm.calls()), await rows(dsn)] == before
        assert await kafka.committed("crm") == {}


async def rows(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM ops.crm_ledger"))
    finally:
        await connection.close()


async def test_a_wrong_mapping_file_ends_with_2_and_a_sentence_and_stdout_has_no_dry_run(
    broker: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "crm.toml"
    path.write_text("[fields]\nnmae = 'x'")
    given = {"CRM_URL": "http://crm", "CRM_TOKEN": TOKEN, "CRM_LEDGER_DSN": "postgresql://unused"}
    async with own_topics(broker.bootstrap_servers, monkeypatch, "crm") as kafka:
        code, _, said = await dry_run(kafka, CRM_MAPPING_FILE=str(path), **given)
        assert code == 2
        assert f"CRM_MAPPING_FILE: Value error, {path}: line 2: fields: `nmae` is no field of ours; allowed:" in said
        one = await asyncio.to_thread(process, kafka, "stdout", "--dry-run")
        assert (await ended(one))[0] == 2
