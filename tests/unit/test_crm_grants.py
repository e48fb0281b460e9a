from __future__ import annotations

import time
from pathlib import Path

import pytest

from consumers.sinks.crm import grants
from consumers.sinks.crm.adapter import Adapter, open_adapter
from consumers.sinks.crm.mapping import item
from consumers.sinks.crm.outcome import Ok, Outcome, Retry
from ops.standalone.crm_desk import Desk
from ops.standalone.crm_pages import Pages
from tests.crm import event, sandbox, settings

NAMES = settings("http://crm", vendor="salesforce").field_map


async def upsert(adapter: Adapter, text: str) -> Outcome:
    (outcome,) = await adapter.upsert([item(event("1", text), None, NAMES)], time.monotonic() + 60)
    return outcome


async def test_a_token_is_asked_for_once_and_renewed_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grants, "_FRESH_S", 0.0)
    granted: list[str] = []
    grant = Desk.grant
    monkeypatch.setattr(Desk, "grant", lambda desk, life_s: (granted.append(""), grant(desk, life_s))[1])
    async with sandbox(tmp_path / "s", limit=100_000) as crm:
        given = settings(crm.url, vendor="salesforce", client_id="made-up")
        async with open_adapter(given) as adapter:
            for text in ("1", "2", "3"):
                assert isinstance(await upsert(adapter, text), Ok)
            assert len(granted) == 1
            with monkeypatch.context() as patch:
                patch.setattr(Desk, "_knows", lambda *_: False)
                assert await upsert(adapter, "4") == Retry("crm-token-ended", 0.0)
            assert isinstance(await upsert(adapter, "4"), Ok)
            assert len(granted) == 2


async def test_a_token_that_is_refused_at_once_is_an_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pages, "token_life_s", 0.0)
    async with sandbox(tmp_path / "s") as crm:
        given = settings(crm.url, vendor="salesforce", client_id="made-up", pause_s=7.0)
        async with open_adapter(given) as adapter:
            assert await upsert(adapter, "x") == Retry("crm-unauthorised", 7.0)


async def test_a_wrong_secret_pauses_and_names_itself(tmp_path: Path) -> None:
    async with sandbox(tmp_path / "s") as crm:
        given = settings(crm.url, vendor="salesforce", client_id="made-up", token="wrong", pause_s=7.0)
        async with open_adapter(given) as adapter:
            assert await upsert(adapter, "x") == Retry("crm-unauthorised", 7.0)
            again = await upsert(adapter, "x")
            assert isinstance(again, Retry)
            assert again.reason == "crm-paused"
            assert await crm.calls() == []
