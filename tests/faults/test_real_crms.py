"""Real servers through the generic webhook (`make faults`): what they answer is theirs, not our idea of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from consumers.sink import EventsRejected, SinkUnavailable
from consumers.sinks.crm import CrmSink, Settings, connect
from consumers.sinks.storage.migrate import migrate
from schemas.event import DialResult
from tests.crm import called, deliveries
from tests.services import Database

from .real_crms import RealCrm, django_crm, parties, tryton

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

LEAD = """
[webhook]
path = "{path}"
remote_id_at = "lead"
[webhook.body]
external_id = "{{event_id}}"
first_name = "{{name}}"
description = "Dial result of {{contact}}: {{conclusion}} ({{mobile}})"
"""

PARTY = """
[webhook]
path = "{path}"
headers = {{Authorization = "bearer {{token}}"}}
done = [{{status = 400, contains = "unique"}}]
[webhook.body]
code = "{{event_id}}"
name = "{{name}}, {{mobile}}, {{conclusion}}"
"""


async def settings(crm: RealCrm, shape: str, folder: Path, postgres: Database, **more: Any) -> Settings:
    """Make settings with a new ledger: it knows of nothing that was sent."""
    dsn = await asyncio.to_thread(postgres.fresh_database)
    await migrate(dsn)
    mapping = folder / "crm.toml"
    mapping.write_text(shape.format(path=crm.path))
    given = {"url": crm.url, "token": crm.token, "ledger_dsn": dsn, "vendor": "webhook", "mapping_file": mapping}
    return Settings(**(given | more))


async def settle(sink: CrmSink, events: list[DialResult]) -> tuple[dict[str, str], list[str]]:
    """Write until settled; return what was rejected, and why there were pauses."""
    pauses: list[str] = []
    while True:
        try:
            await sink.write(deliveries(*events))
        except SinkUnavailable as away:
            pauses.append(away.reason)
            await asyncio.sleep(away.retry_after_s or 0.2)
        except EventsRejected as rejected:
            return rejected.reasons, pauses
        else:
            return {}, pauses


def results(count: int) -> list[DialResult]:
    return [called(f"{number}", 1, name="Made Up", mobile="138****0101", conclusion="KPTP") for number in range(count)]


async def test_django_crm_has_one_lead_an_event_and_its_limit_is_kept(postgres: Database, tmp_path: Path) -> None:
    dsn = await asyncio.to_thread(postgres.fresh_database)
    async with django_crm(dsn, tmp_path) as crm:
        events = results(130)  # it takes 120 a minute
        async with connect(await settings(crm, LEAD, tmp_path, postgres), {}) as sink:
            rejected, pauses = await settle(sink, events)
        async with connect(await settings(crm, LEAD, tmp_path, postgres), {}) as forgetful:
            again, _ = await settle(forgetful, events[:20])
        async with connect(await settings(crm, LEAD, tmp_path, postgres, token="wrong", pause_s=0.1), {}) as sink:
            with pytest.raises(SinkUnavailable, match="crm-unauthorised"):
                await sink.write(deliveries(*results(1)))
        leads = await crm.event_ids()
    print(f"\ndjango-crm: {len(events)} events, {len(leads)} leads, pauses {sorted(set(pauses))}, rejected {rejected}")
    assert leads == sorted(one.event_id for one in events)
    assert (rejected, again) == ({}, {})
    assert "crm-rate-limit" in pauses


async def test_tryton_has_one_party_an_event_and_refuses_alone_what_it_cannot_hold(
    postgres: Database, tmp_path: Path
) -> None:
    dsn = await asyncio.to_thread(postgres.fresh_database)
    async with tryton(dsn, tmp_path) as crm:
        events = results(100)
        quick = {"limit_calls": 1_000}
        async with connect(await settings(crm, PARTY, tmp_path, postgres, **quick), {}) as sink:
            rejected, _ = await settle(sink, events)
        async with connect(await settings(crm, PARTY, tmp_path, postgres, **quick), {}) as forgetful:
            again, _ = await settle(forgetful, events)
        async with connect(await settings(crm, PARTY, tmp_path, postgres, token="wrong", pause_s=0.1), {}) as sink:
            with pytest.raises(SinkUnavailable, match="crm-unauthorised"):
                await sink.write(deliveries(*results(1)))
        codes = await parties(crm)
    print(f"\nTryton: {len(events)} events, {len(codes)} parties, rejected {rejected}, on repetition {again}")
    assert sorted(codes) == sorted(one.event_id for one in events)
    assert (rejected, again) == ({}, {})
