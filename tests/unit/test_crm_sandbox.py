from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ops.standalone.ports import free_ports
from tests.crm import PATH, TOKEN, Crm, one_input, sandbox


async def test_an_upsert_makes_a_contact_and_one_effect(tmp_path: Path) -> None:
    async with sandbox(tmp_path / "state") as crm:
        status, body, _ = await crm.upsert([one_input("demo:55667448", "e-1", dial_result_name="Bob")])
        assert (status, body["status"], body["results"][0]["new"]) == (200, "COMPLETE", True)
        assert body["results"][0]["objectWriteTraceId"] == "e-1"
        contact = await crm.get("/contacts/demo:55667448")
        assert contact["properties"] == {
            "dial_contact": "demo:55667448",
            "dial_result_event_id": "e-1",
            "dial_result_name": "Bob",
        }
        (effect,) = await crm.get("/effects")
        assert effect.keys() == {"event_id", "contact", "at"}
        assert (effect["event_id"], effect["contact"]) == ("e-1", "demo:55667448")


async def test_an_effect_is_a_change(tmp_path: Path) -> None:
    async with sandbox(tmp_path / "state") as crm:
        for _ in range(3):
            _, body, _ = await crm.upsert([one_input(dial_result_name="Bob")])
        assert not body["results"][0]["new"]
        assert await crm.effects() == ["e-1"]
        await crm.upsert([one_input(event="e-2", dial_result_name="")])
        assert await crm.effects() == ["e-1", "e-2"]
        assert "dial_result_name" not in (await crm.get("/contacts/demo:1"))["properties"]


async def test_unknown_contacts_are_404(tmp_path: Path) -> None:
    async with sandbox(tmp_path / "state") as crm:
        assert await crm.get("/contacts/demo:1") == 404
        assert await crm.get("/healthz") == {"status": "ok"}


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x"])
async def test_a_bad_token_is_401(tmp_path: Path, token: str) -> None:
    async with sandbox(tmp_path / "state") as crm:
        status, body, _ = await crm.upsert([one_input()], token=token)
        assert (status, body["category"]) == (401, "INVALID_AUTHENTICATION")
        assert await crm.effects() == []


@pytest.mark.parametrize(
    "inputs",
    [
        [one_input(f"demo:{number}") for number in range(101)],
        [one_input("demo:1"), one_input("demo:2"), one_input("demo:1")],
        [one_input(some=7)],
        [one_input(some=None)],
        [one_input() | {"idProperty": "phone"}],
        [one_input() | {"id": 7}],
        [one_input(dial_contact="demo:2")],
        [{}],
        [],
        None,
    ],
)
async def test_a_whole_batch_is_refused(tmp_path: Path, inputs: Any) -> None:
    async with sandbox(tmp_path / "state") as crm:
        status, body, _ = await crm.upsert(inputs)
        assert (status, body["category"]) == (400, "VALIDATION_ERROR")
        assert await crm.effects() == []


async def test_a_hundred_inputs_are_taken(tmp_path: Path) -> None:
    async with sandbox(tmp_path / "state") as crm:
        status, body, _ = await crm.upsert([one_input(f"demo:{n}", f"e-{n}") for n in range(100)])
        assert (status, len(body["results"]), len(await crm.effects())) == (200, 100, 100)


async def test_over_the_limit_is_429_until_the_window_has_passed(tmp_path: Path) -> None:
    async with sandbox(tmp_path / "state", limit=3, window_s=3.0) as crm:
        statuses = [(await crm.upsert([one_input()]))[0] for _ in range(3)]
        status, body, headers = await crm.upsert([one_input(event="e-2")])
        assert [*statuses, status] == [200, 200, 200, 429]
        assert (body["errorType"], body["policyName"]) == ("RATE_LIMIT", "TEN_SECONDLY_ROLLING")
        assert headers["Retry-After"] in {"1", "2", "3"}
        deadline = time.monotonic() + 60
        while (await crm.upsert([one_input(event="e-2")]))[0] == 429:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        calls = await crm.calls()
        assert calls[-1]["at"] - calls[0]["at"] >= 3.0


@pytest.mark.parametrize(
    ("path", "fault", "expected"),
    [
        (PATH, {}, 200),
        ("/crm/v3/objects/contacts/batch/upsert", {}, 207),
        (PATH, {"errors_status": 207}, 207),
    ],
)
async def test_partial_failures(tmp_path: Path, path: str, fault: dict[str, Any], expected: int) -> None:
    async with sandbox(tmp_path / "state") as crm:
        await crm.faults({"reject": ["demo:2"]} | fault)
        status, body, _ = await crm.upsert([one_input("demo:1", "e-1"), one_input("demo:2", "e-2")], path=path)
        assert (status, body["numErrors"]) == (expected, 1)
        assert body["errors"][0]["context"] == {"objectWriteTraceId": ["e-2"], "ids": ["demo:2"]}
        assert await crm.effects() == ["e-1"]
        assert (await crm.upsert([one_input("demo:2", "e-2")], path=path))[0] == 200


async def test_a_lost_reply_was_applied(tmp_path: Path) -> None:
    async with sandbox(tmp_path / "state") as crm:
        await crm.faults({"lose": True})
        with pytest.raises(aiohttp.ClientError):
            await crm.upsert([one_input()])
        assert await crm.effects() == ["e-1"]
        assert [call["status"] for call in await crm.calls()] == [0]


async def test_the_script_is_followed_in_order(tmp_path: Path) -> None:
    async with sandbox(tmp_path / "state") as crm:
        await crm.faults(
            {"calls": 2, "status": 503}, {"status": 429, "retry_after_s": 4}, {"status": 500, "apply": True}
        )
        answers = [await crm.upsert([one_input()]) for _ in range(5)]
        assert [status for status, *_ in answers] == [503, 503, 429, 500, 200]
        assert [headers.get("Retry-After") for *_, headers in answers] == [None, None, "4", None, None]
        assert await crm.effects() == ["e-1"]


async def test_the_script_can_be_forgotten_and_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    async with sandbox(tmp_path / "state") as crm:
        await crm.faults({"calls": None, "status": 503})
        assert (await crm.upsert([one_input()]))[0] == 503
        await crm.good_days()
        assert (await crm.upsert([one_input()]))[0] == 200
        async with crm.session.post(f"{crm.url}/faults", json={"statsu": 503}) as response:
            assert response.status == 400


async def test_a_restart_keeps_everything_but_a_torn_line(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with sandbox(state) as crm:
        await crm.upsert([one_input("demo:1", "e-1"), one_input("demo:2", "e-2")])
        before = [await crm.get("/effects"), await crm.get("/contacts/demo:2")]
    whole = state.read_bytes()
    state.write_bytes(whole + b'{"event_id":"e-3","cont')
    async with sandbox(state) as crm:
        assert [await crm.get("/effects"), await crm.get("/contacts/demo:2")] == before
        await crm.upsert([one_input("demo:1", "e-3")])
    async with sandbox(state) as crm:
        assert await crm.effects() == ["e-1", "e-2", "e-3"]


async def test_the_process_survives_kill_9_and_prints_no_token_or_contact(tmp_path: Path) -> None:
    port, state = free_ports(["crm"])["crm"], tmp_path / "state"
    async with aiohttp.ClientSession() as session:
        crm = Crm(f"http://127.0.0.1:{port}", session)
        with (tmp_path / "log").open("ab") as log:
            for number in range(2):
                process = start(port, state, log)
                try:
                    await healthy(crm)
                    await crm.upsert([one_input("demo:55667448", f"e-{number}")])
                    assert await crm.effects() == [f"e-{n}" for n in range(number + 1)]
                    assert start(free_ports(["crm"])["crm"], state, log).wait(60) == 75
                finally:
                    process.kill()
                    process.wait(60)
    assert not any(secret in (tmp_path / "log").read_text() for secret in (TOKEN, "55667448"))


def start(port: int, state: Path, log: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ops.standalone.crm", "--port", str(port), "--state", str(state)]
    return subprocess.Popen(command, env=os.environ | {"SANDBOX_CRM_TOKEN": TOKEN}, stdout=log, stderr=log)


async def healthy(crm: Crm) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if await crm.get("/healthz") == {"status": "ok"}:
                return
        except aiohttp.ClientError:
            assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
