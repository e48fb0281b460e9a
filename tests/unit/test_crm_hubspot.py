"""The adapter against the sandbox CRM, over real HTTP."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from consumers.sinks.crm.adapter import open_adapter
from consumers.sinks.crm.field_map import load_field_map
from consumers.sinks.crm.mapping import Item, item
from consumers.sinks.crm.outcome import Ok, Reject, Retry
from ops.standalone.ports import free_ports
from tests.crm import TOKEN, event, sandbox, settings

HUBSPOT = load_field_map(None, "hubspot")


def items(count: int, text: str = "") -> list[Item]:
    return [item(event(str(number), text), None, HUBSPOT) for number in range(count)]


def soon() -> float:
    return time.monotonic() + 60


@pytest.mark.parametrize("version", ["2026-09", "v3"])
async def test_a_hundred_items_are_one_call(tmp_path: Path, version: str) -> None:
    async with sandbox(tmp_path / "s") as crm, open_adapter(settings(crm.url, api_version=version)) as hubspot:
        outcomes = await hubspot.upsert(items(100), soon())
        assert outcomes == [Ok(str(number + 1)) for number in range(100)]
        assert [call["inputs"] for call in await crm.calls()] == [100]


@pytest.mark.parametrize("version", ["2026-09", "v3"])
async def test_partial_failures_reject_exactly_those(tmp_path: Path, version: str) -> None:
    async with sandbox(tmp_path / "s") as crm, open_adapter(settings(crm.url, api_version=version)) as hubspot:
        await crm.faults({"reject": ["demo:3", "demo:7"], "category": "INVALID_EMAIL"})
        outcomes = await hubspot.upsert(items(10), soon())
        assert [n for n, one in enumerate(outcomes) if one == Reject("crm-invalid-email")] == [3, 7]
        assert sum(isinstance(one, Ok) for one in outcomes) == 8
        assert len(await crm.calls()) == 1


@pytest.mark.parametrize("how", [{"whole": True}, {"anonymous": True}])
async def test_a_refusal_that_names_nobody_is_narrowed_down(tmp_path: Path, how: dict[str, Any]) -> None:
    async with sandbox(tmp_path / "s") as crm, open_adapter(settings(crm.url)) as hubspot:
        await crm.faults({"calls": None, "reject": ["demo:3", "demo:70"], **how})
        outcomes = await hubspot.upsert(items(100), soon())
        assert [n for n, one in enumerate(outcomes) if one == Reject("crm-validation-error")] == [3, 70]
        assert len(await crm.effects()) == 98
        assert len(await crm.calls()) < 40


async def test_an_item_that_the_answer_forgets_is_not_known_to_be_done(tmp_path: Path) -> None:
    async with sandbox(tmp_path / "s") as crm, open_adapter(settings(crm.url)) as hubspot:
        await crm.faults({"forget": ["demo:1"]})
        assert await hubspot.upsert(items(3), soon()) == [Ok("1"), Retry("crm-no-verdict", named=True), Ok("3")]


async def test_lost_and_late_replies_are_unknown_and_harmless_to_repeat(tmp_path: Path) -> None:
    async with sandbox(tmp_path / "s") as crm, open_adapter(settings(crm.url, call_timeout_s=0.5)) as hubspot:
        await crm.faults({"lose": True}, {"reply_delay_s": 30})
        first = await hubspot.upsert(items(3), soon())
        second = await hubspot.upsert(items(3), soon())
        assert all(isinstance(one, Retry) for one in first)
        assert second == [Retry("crm-timeout")] * 3
        async with asyncio.timeout(60):
            while isinstance((third := await hubspot.upsert(items(3), soon()))[0], Retry):
                pass  # a busy machine may be too late again
        assert third == [Ok("1"), Ok("2"), Ok("3")]
        assert len(await crm.effects()) == 3


async def test_nobody_there_is_a_retry() -> None:
    async with open_adapter(settings(f"http://127.0.0.1:{free_ports(['crm'])['crm']}")) as hubspot:
        outcomes = await hubspot.upsert(items(2), soon())
        assert outcomes == [Retry("crm-ClientConnectorError")] * 2


async def test_nothing_is_sent_before_retry_after_is_over(tmp_path: Path) -> None:
    async with sandbox(tmp_path / "s") as crm, open_adapter(settings(crm.url)) as hubspot:
        await crm.faults({"status": 429, "retry_after_s": 1})
        assert await hubspot.upsert(items(1), soon()) == [Retry("crm-rate-limit", 1.0)]
        deadline = time.monotonic() + 60
        while isinstance((await hubspot.upsert(items(1), soon()))[0], Retry):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        refused, taken = await crm.calls()
        assert (refused["status"], taken["status"]) == (429, 200)
        assert taken["at"] - refused["at"] >= 1.0


async def test_nothing_is_sent_when_the_contacts_may_be_somebody_elses(tmp_path: Path) -> None:
    async with sandbox(tmp_path / "s") as crm, open_adapter(settings(crm.url)) as hubspot:
        assert await hubspot.upsert(items(1), time.monotonic() - 1) == [Retry("crm-not-sent", 0.0)]
        assert await crm.calls() == []


async def test_its_own_limit_keeps_it_below_the_destinations(tmp_path: Path) -> None:
    async with (
        sandbox(tmp_path / "s", limit=5, window_s=0.5) as crm,
        open_adapter(settings(crm.url, limit_calls=5, limit_window_s=0.5)) as hubspot,
    ):
        for number in range(20):
            assert isinstance((await hubspot.upsert(items(1, str(number)), soon()))[0], Ok)
        assert {call["status"] for call in await crm.calls()} == {200}


async def test_the_token_is_in_no_representation(tmp_path: Path) -> None:
    async with sandbox(tmp_path / "s") as crm, open_adapter(settings(crm.url)) as hubspot:
        assert TOKEN not in repr(settings(crm.url)) + repr(vars(hubspot))
