"""How each vendor's contact is erased, against the sandbox CRM, which answers as its vendor documents it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from consumers.sinks.crm.adapter import DIALECTS, NO_CALL
from consumers.sinks.crm.outcome import Ok, Retry

from .test_crm_adapters import Subject, opened

MAPPING = """
object = "contacts"
id = "contact"
[fields]
event_id = "event_id"
[webhook.erase]
path = "/webhook/{contact}"
"""


@pytest.fixture(params=sorted(DIALECTS))
def vendor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def settings_of(vendor: str, folder: Path) -> dict[str, Any]:
    if vendor != "webhook":
        return {}
    (folder / "crm.toml").write_text(MAPPING)
    return {"mapping_file": folder / "crm.toml"}


async def erase(subject: Subject, contact: str, remote_id: str | None = None) -> str | Retry:
    return await subject.adapter.erase(contact, remote_id, time.monotonic() + 60)


@pytest.mark.parametrize("known", [True, False], ids=["known-by-its-id", "found-by-name"])
async def test_the_contact_is_gone_and_nobody_else_and_again_is_harmless(
    vendor: str, tmp_path: Path, known: bool
) -> None:
    async with opened(vendor, tmp_path, **settings_of(vendor, tmp_path)) as subject:
        items = subject.items(3, name="Bob")
        outcomes = await subject.upsert(items)
        assert isinstance(outcomes[1], Ok)
        remote_id = outcomes[1].remote_id if known else None
        for _ in range(2):
            assert await erase(subject, "demo:1", remote_id) == ""
            assert [await subject.crm.shows(f"demo:{number}") for number in range(3)] == [
                items[0].event_id,
                None,
                items[2].event_id,
            ]
        assert "Bob" not in str(await subject.crm.get("/contacts/demo:1"))


@pytest.mark.parametrize("contact", ["demo:nobody", "demo:%2f/../?#", 'demo:say "no"', "demo:\U0001f600 "])
async def test_who_was_never_there_is_erased_all_the_same(vendor: str, tmp_path: Path, contact: str) -> None:
    async with opened(vendor, tmp_path, **settings_of(vendor, tmp_path)) as subject:
        await subject.upsert(subject.items(1))
        assert await erase(subject, contact) == ""
        assert await subject.crm.shows("demo:0")


async def test_over_the_limit_it_waits_as_it_is_told_and_nothing_is_erased(vendor: str, tmp_path: Path) -> None:
    async with opened(vendor, tmp_path, limit=1, **settings_of(vendor, tmp_path)) as subject:
        await subject.upsert(subject.items(1))
        refused = await erase(subject, "demo:0")
        assert isinstance(refused, Retry)
        assert (refused.reason, 0 < (refused.after_s or 0) <= 10) == ("crm-rate-limit", True)
        assert await subject.crm.shows("demo:0")


async def test_with_a_refused_token_it_is_tried_again_later(vendor: str, tmp_path: Path) -> None:
    async with opened(vendor, tmp_path, token="wrong", pause_s=7.0, **settings_of(vendor, tmp_path)) as subject:
        assert await erase(subject, "demo:0") == Retry("crm-unauthorised", 7.0)


async def test_a_webhook_without_a_call_for_it_says_what_remains(tmp_path: Path) -> None:
    async with opened("webhook", tmp_path) as subject:
        await subject.upsert(subject.items(1))
        assert await erase(subject, "demo:0") == NO_CALL
        assert await subject.crm.shows("demo:0")
