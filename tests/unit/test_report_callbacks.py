"""The receiver's half of `report balance`, asked of admin ports that say this and that."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ops.reporting.balance import Published, Sheet
from ops.reporting.balance_words import Balance
from ops.reporting.callbacks import Callbacks, callbacks
from tests.unit.receivers import OTHER_TOKEN, running

EVEN = Callbacks(
    received=12,
    acknowledged=11,
    refused=1,
    recovered=3,
    journaled=12,
    decoded=10,
    quarantined=2,
    empty=1,
    damaged=1,
    waiting=1,
)
SHEET = Sheet(0, 0, 0, 0, 0, 0, ())


@pytest.mark.parametrize(
    ("change", "even", "lost"),
    [
        ({}, True, 0),
        ({"decoded": 9}, False, 1),
        ({"waiting": 2}, False, -1),
        ({"acknowledged": 13, "received": 14}, False, 0),  # a 200 that no journal knows
        ({"received": 13}, False, 0),  # one that was never answered
    ],
)
def test_what_came_in_is_what_came_out(change: dict[str, int], even: bool, lost: int) -> None:
    counted = dataclasses.replace(EVEN, **change)
    assert (counted.even, counted.lost) == (even, lost)
    balance = Balance(datetime(2026, 11, 24, 3, tzinfo=UTC), Published(), {"storage": SHEET}, counted)
    assert balance.told()["even"] is balance.even is even
    assert balance.told()["callbacks"]["lost"] == lost
    said = "\n".join(balance.lines())
    assert ("MISSING" in said, "NOT EVEN" in said) == (lost > 0, not even and lost <= 0)


async def test_a_receivers_own_counts_are_even(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        await one.post()
        await one.post(token=OTHER_TOKEN)
        assert (await one.post(b" " * 1_000_001)).status == 413
        counted = await callbacks(f"http://127.0.0.1:{one.receiver.admin_port}")
    assert counted
    assert (counted.received, counted.acknowledged, counted.refused) == (3, 2, 1)
    assert (counted.journaled, counted.waiting, counted.even) == (2, 2, True)
    async with running(tmp_path) as one:
        counted = await callbacks(f"http://127.0.0.1:{one.receiver.admin_port}")
    assert counted
    assert (counted.journaled, counted.recovered, counted.waiting, counted.even) == (0, 2, 2, True)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nowhere", "http://[::1"])
async def test_nobody_there_is_no_count(url: str) -> None:
    assert await callbacks(url) is None
