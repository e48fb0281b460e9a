"""The crm consumer under faults (`make faults`): each prints its counts.

Seen red with its guard removed: the kills without `Ledger.intend` (11 double effects in 25 kills), the zombies without
the look at what is newest behind the call (40 wrong final states in 4), the bad days with one error of a call taken for
all its results' (the reject limit stops the consumer).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from schemas import topics, wire
from tests.crm import Crm, called, sandbox
from tests.integration.delivery import Kafka

from .crm import Outcome, SandboxProcess, nursery, recent_ms, shuffled_results, until_pending
from .members import report, until, until_done

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

KILLS = int(os.environ.get("FAULTS_CRM_KILLS", "100"))
ZOMBIES = int(os.environ.get("FAULTS_CRM_ZOMBIES", "20"))


async def test_kill_9_at_random_points_has_no_double_effect_and_loses_nothing(
    kafka: Kafka, dsn: str, tmp_path: Path
) -> None:
    events, chance = shuffled_results(contacts=15, calls=4 * KILLS, seed=1), random.Random(2)
    size = len(events) // KILLS
    async with sandbox(tmp_path / "state", limit=1_000_000) as crm:
        await crm.faults({"calls": None, "delay_s": 0.03, "reply_delay_s": 0.08})
        with nursery(tmp_path, kafka, CRM_URL=crm.url, CRM_LEDGER_DSN=dsn) as consumers:
            member = await consumers.start()
            for kill in range(KILLS):
                await kafka.publish(events[kill * size : (kill + 1) * size])
                await member.assigned()
                await asyncio.sleep(chance.uniform(0.0, 0.8))
                member.send(signal.SIGKILL)
                await member.ended()
                member = await consumers.start(chance.randrange(10, 60))
            await crm.good_days()
            await kafka.publish(events[KILLS * size :])
            await until_done(kafka, "crm")
        outcome = await Outcome.of(crm, dsn, events)
        report(f"{KILLS} x kill -9 of the crm consumer: {len(events)} results, {outcome}")
    assert (outcome.missing, outcome.double, outcome.wrong) == (0, 0, 0)
    assert outcome.effects >= 15


async def test_frozen_processes_leave_no_wrong_final_state(kafka: Kafka, dsn: str, tmp_path: Path) -> None:
    chance, events, stale = random.Random(3), [], 0
    quick = {"CRM_HOLD_S": "1", "CRM_CALL_TIMEOUT_S": "3", "CRM_LOCK_TIMEOUT_S": "1"}
    async with sandbox(tmp_path / "state", limit=1_000_000) as crm:
        with nursery(tmp_path, kafka, CRM_URL=crm.url, CRM_LEDGER_DSN=dsn, **quick) as consumers:
            for zombie in range(ZOMBIES):
                contacts = [f"{zombie}-{number}" for number in range(20)]
                older, newer = ([called(one, minute, received_ms=recent_ms()) for one in contacts] for minute in (1, 2))
                events += older + newer
                frozen = await consumers.start()
                await frozen.assigned()
                # Half of the calls are on their way while the process stands still, and arrive behind the newer ones.
                on_its_way = zombie % 2 == 0
                if on_its_way:
                    await crm.faults({"delay_s": 10.0})
                began_at = time.monotonic()
                await kafka.publish(older)
                if on_its_way:
                    await until_pending(dsn, [one.event_id for one in older])
                await asyncio.sleep(chance.uniform(0.2, 0.4) if on_its_way else chance.uniform(0.0, 0.4))
                frozen.send(signal.SIGSTOP)
                frozen_at = time.monotonic()
                other = await consumers.start()
                await kafka.publish(newer)
                await until_done(kafka, "crm")
                if on_its_way:
                    await landed(crm, began_at, frozen_at)
                frozen.send(signal.SIGCONT)
                stale += await repaired(crm, contacts, newer)
                for member in (frozen, other):
                    member.send(signal.SIGTERM)
                for member in (frozen, other):
                    await member.ended()
        outcome = await Outcome.of(crm, dsn, events)
        report(f"{ZOMBIES} zombies: {len(events)} results, {stale} contacts were stale when it woke, {outcome}")
    assert (outcome.missing, outcome.wrong) == (0, 0)
    assert stale, "no call ever arrived behind a newer one: this proves nothing"


async def landed(crm: Crm, began_at: float, frozen_at: float) -> None:
    """Wait until the call that was on its way has been applied; the sandbox's clock is this process's own."""
    async with asyncio.timeout(30):
        while not [call for call in await crm.calls() if began_at < call["at"] < frozen_at]:
            await asyncio.sleep(0.05)


async def repaired(crm: Crm, contacts: list[str], newer: list[Any]) -> int:
    """Wait, within limits, until every contact shows the newer one; return how many did not at first."""
    expected = {f"demo:{one}": result.event_id for one, result in zip(contacts, newer, strict=True)}
    stale = [one for one, event_id in expected.items() if await crm.shows(one) != event_id]
    deadline = asyncio.get_running_loop().time() + 20
    while asyncio.get_running_loop().time() < deadline:
        if not [one for one, event_id in expected.items() if await crm.shows(one) != event_id]:
            break
        await asyncio.sleep(0.1)
    return len(stale)


@pytest.mark.parametrize("vendor", ["hubspot", "salesforce", "webhook"])
async def test_bad_days_have_no_double_effect_and_dead_letter_exactly_the_rejects(
    kafka: Kafka, dsn: str, tmp_path: Path, vendor: str
) -> None:
    events = [called(f"{number}", number % 60, received_ms=recent_ms()) for number in range(2_000)]
    bad = events[50::100]
    refusing = {"reject": [one.key.decode() for one in bad], "category": "INVALID_EMAIL"}
    bad_days = [
        {"status": 429, "retry_after_s": 1},
        {"status": 500},
        {"status": 500, "apply": True},
        {"lose": True},
        {"status": 503, "retry_after_s": 1},
        {"reply_delay_s": 3.0},
        {"lose": True},
        {"status": 401},
    ]
    crm = SandboxProcess(tmp_path)
    await crm.start()
    settings = {"CRM_URL": crm.url, "CRM_LEDGER_DSN": dsn, "CRM_CALL_TIMEOUT_S": "1", "CRM_VENDOR": vendor}
    try:
        async with crm.client() as client:
            good = [{"calls": 30 if vendor == "webhook" else 1} | refusing]
            await client.faults(
                *[refusing | day for one in bad_days for day in (*good, one)], {"calls": None} | refusing
            )
            with nursery(tmp_path, kafka, CRM_BREAKER_S="1", **settings) as consumers:
                await consumers.start(batch_events=250)
                await kafka.publish(events[:1_400])
                async with asyncio.timeout(120):
                    while len(await client.get("/faults")) > 1:
                        await asyncio.sleep(0.05)
                statuses = {call["status"] for call in await client.calls()}
                crm.kill()
                await kafka.publish(events[1_400:])
                await until(lambda: "crm_breaker_open" in consumers.logged())
                await crm.start({"calls": None} | refusing)
                await until_done(kafka, "crm")
                logged = consumers.logged()
            dead = await kafka.read(topics.dead_letter("crm"), len(bad))
            dead_letters = sum((await kafka.ends(topics.dead_letter("crm"))).values())
            live = {place(one): one.value for one in await kafka.read(topics.DIAL_RESULTS, len(events))}
            outcome = await Outcome.of(client, dsn, [one for one in events if one not in bad])
    finally:
        crm.kill()
    report(f"bad days, {vendor}: {len(events)} results, {outcome}, dead letters {dead_letters} of {len(bad)} rejects")
    assert dead_letters == len(bad)
    assert (outcome.missing, outcome.double, outcome.wrong) == (0, 0, 0)
    assert sorted(one.value for one in dead) == sorted(wire.encode(one).value for one in bad)
    assert {original(one): one.value for one in dead} == {at: live[at] for at in map(original, dead)}
    reason = b"crm-status-422" if vendor == "webhook" else b"crm-invalid-email"
    assert {dict(one.headers)["reason"] for one in dead} == {reason}
    assert statuses > {0, 401, 403 if vendor == "salesforce" else 429, 500, 503}, "the bad days really came"
    assert all(seen in logged for seen in ("crm-rate-limit", "crm-unauthorised", "crm_breaker_open"))


def place(record: Any) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


def original(record: Any) -> tuple[str, int, int]:
    """Return where the dead letter says that its record stood."""
    headers = {name: value.decode() for name, value in record.headers}
    return headers["original-topic"], int(headers["original-partition"]), int(headers["original-offset"])
