"""One suite for all vendors: each dialect against the sandbox CRM, which is as strict as its vendor, over real HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from consumers.sinks.crm.adapter import DIALECTS, Adapter, open_adapter
from consumers.sinks.crm.mapping import Item, item
from consumers.sinks.crm.outcome import Ok, Outcome, Reject, Retry
from tests.crm import TOKEN, Crm, ManualClock, event, sandbox, settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Subject:
    def __init__(self, vendor: str, crm: Crm, adapter: Adapter) -> None:
        self.vendor, self.crm, self.adapter = vendor, crm, adapter
        self.names = settings("http://crm", vendor=vendor).field_map

    def items(self, count: int, text: str = "", **record: Any) -> list[Item]:
        return [item(event(str(number), text, **record), None, self.names) for number in range(count)]

    async def upsert(self, items: list[Item]) -> list[Outcome]:
        """Send in parts of the size that the vendor takes."""
        size, outcomes = self.adapter.max_items, []
        for start in range(0, len(items), size):
            outcomes += await self.adapter.upsert(items[start : start + size], time.monotonic() + 60)
        return outcomes

    async def settled(self, items: list[Item]) -> list[Outcome]:
        """Send until nothing is to be tried again: a busy machine may be too late for a short limit."""
        async with asyncio.timeout(60):
            outcomes = await self.upsert(items)
            while any(isinstance(one, Retry) for one in outcomes):
                outcomes = await self.upsert(items)
        return outcomes


@pytest.fixture(params=sorted(DIALECTS))
def vendor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def opened(vendor: str, tmp_path: Path, limit: int = 1_000, **more: Any) -> AsyncIterator[Subject]:
    given = {"vendor": vendor, "webhook_secret": SECRET, "limit_calls": 1_000} | more
    async with (
        sandbox(tmp_path / "s", limit, webhook_secret=SECRET) as crm,
        open_adapter(settings(crm.url, **given)) as adapter,
    ):
        yield Subject(vendor, crm, adapter)


async def test_items_are_taken_shown_and_have_one_effect_each(vendor: str, tmp_path: Path) -> None:
    async with opened(vendor, tmp_path) as subject:
        items = subject.items(5, name="Bob", callTime="2024-08-15 07:00:00")
        for _ in range(2):
            outcomes = await subject.upsert(items)
            assert all(isinstance(one, Ok) and one.remote_id for one in outcomes), outcomes
        assert await subject.crm.effects() == [one.event_id for one in items]
        assert await subject.crm.shows("demo:3") == items[3].event_id


async def test_what_is_absent_clears_what_an_older_result_left(vendor: str, tmp_path: Path) -> None:
    async with opened(vendor, tmp_path) as subject:
        await subject.upsert(subject.items(1, name="Bob", callTime="2024-08-15 07:00:00"))
        assert [type(one) for one in await subject.upsert(subject.items(1, "newer"))] == [Ok]
        shown = (await subject.crm.get("/contacts/demo:0"))["properties"]
        assert "Bob" not in shown.values()


async def test_a_full_call_is_taken(vendor: str, tmp_path: Path) -> None:
    async with opened(vendor, tmp_path) as subject:
        outcomes = await subject.upsert(subject.items(subject.adapter.max_items))
        assert {type(one) for one in outcomes} == {Ok}
        assert [call["inputs"] for call in await subject.crm.calls()] == [subject.adapter.max_items]


async def test_a_refused_item_is_rejected_alone_with_the_vendors_code(vendor: str, tmp_path: Path) -> None:
    async with opened(vendor, tmp_path) as subject:
        await subject.crm.faults({"calls": None, "reject": ["demo:1"], "category": "INVALID_EMAIL"})
        first, second, third = await subject.upsert(subject.items(3))
        assert isinstance(first, Ok)
        assert isinstance(third, Ok)
        assert second == Reject("crm-status-422" if vendor == "webhook" else "crm-invalid-email")


@pytest.mark.parametrize("fault", [{"lose": True}, {"status": 500, "apply": True}, {"reply_delay_s": 30}])
async def test_an_outcome_that_nobody_knows_is_tried_again(vendor: str, tmp_path: Path, fault: dict[str, Any]) -> None:
    async with opened(vendor, tmp_path, call_timeout_s=0.5) as subject:
        await subject.crm.faults(fault)
        items = subject.items(1)
        (unknown,) = await subject.upsert(items)
        assert isinstance(unknown, Retry)
        assert not unknown.named
        assert [type(one) for one in await subject.settled(items)] == [Ok]
        assert await subject.crm.effects() == [items[0].event_id]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_pauses(vendor: str, tmp_path: Path, status: int) -> None:
    wrong = {"token": "wrong"} if status == 401 else {}
    async with opened(vendor, tmp_path, pause_s=7.0, **wrong) as subject:
        if status == 403:
            await subject.crm.faults({"status": 403, "category": "MISSING_SCOPES"})
        assert await subject.upsert(subject.items(1)) == [Retry("crm-unauthorised", 7.0)]
        assert [one.reason for one in await subject.upsert(subject.items(1)) if isinstance(one, Retry)] == [
            "crm-paused"
        ]
        assert len(await subject.crm.calls()) == 1


async def test_over_the_limit_it_waits_as_it_is_told(vendor: str, tmp_path: Path) -> None:
    async with opened(vendor, tmp_path, limit=1) as subject:
        await subject.upsert(subject.items(1))
        (verdict,) = await subject.upsert(subject.items(1))
        assert isinstance(verdict, Retry)
        assert verdict.reason == "crm-rate-limit"
        assert verdict.after_s is not None
        assert 0 < verdict.after_s <= 10


async def test_the_breaker_leaves_a_failing_crm_alone_and_probes_it(vendor: str, tmp_path: Path) -> None:
    async with opened(vendor, tmp_path, breaker_failures=3, breaker_s=30.0) as subject:
        clock, line = ManualClock(), subject.adapter._line
        line._breaker._clock = clock.now
        await subject.crm.faults({"calls": 4, "status": 503})
        for calls in (3, 4):  # at first, and after a probe that failed
            verdicts = [(await subject.upsert(subject.items(1)))[0] for _ in range(20)]
            assert Retry("crm-breaker-open", 30.0) in verdicts
            assert len(await subject.crm.calls()) == calls
            clock.time += 30.0
            line._quiet_until = 0.0
        assert [type(one) for one in await subject.upsert(subject.items(1))] == [Ok]
        *failed, last = [call["status"] for call in await subject.crm.calls()]
        assert (failed, last) == ([503] * 4, 201 if vendor == "webhook" else 200)


async def test_the_token_is_in_no_representation(vendor: str, tmp_path: Path) -> None:
    async with opened(vendor, tmp_path) as subject:
        shown = repr(settings("http://crm", vendor=vendor, webhook_secret=SECRET)) + repr(vars(subject.adapter))
        assert TOKEN not in shown
        assert SECRET not in shown
