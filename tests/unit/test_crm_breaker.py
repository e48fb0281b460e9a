from __future__ import annotations

from datetime import UTC, datetime

import pytest

from consumers.metrics import SINKS
from consumers.sinks.crm.breaker import Breaker
from consumers.sinks.crm.mapping import Item, Rank
from consumers.sinks.crm.outcome import Ok, Outcome, Reject, Retry
from consumers.sinks.crm.patience import Patience


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def calls(breaker: Breaker, *answered: bool) -> None:
    for one in answered:
        assert breaker.wait_s() == 0
        with breaker.call() as note:
            note(one)


def shown() -> float | None:
    return SINKS.get_sample_value("dial_results_consumer_crm_breaker_open", {"consumer": "crm"})


def test_it_opens_after_a_run_of_failures_and_not_before() -> None:
    clock = Clock()
    breaker = Breaker(3, 30.0, clock)
    calls(breaker, False, False, True, False, False)
    assert (breaker.wait_s(), shown()) == (0, 0)
    calls(breaker, False)
    assert (breaker.wait_s(), shown()) == (30.0, 1)
    clock.time = 29.0
    assert breaker.wait_s() == 1.0


def test_one_probe_at_a_time_closes_it_or_opens_it_again() -> None:
    clock = Clock()
    breaker = Breaker(2, 30.0, clock)
    calls(breaker, False, False)
    clock.time = 30.0
    with breaker.call() as note:
        assert breaker.wait_s() > 0, "the probe is under way"
        note(False)
    assert breaker.wait_s() == 30.0
    clock.time = 60.0
    calls(breaker, True)
    calls(breaker, False)
    assert (breaker.wait_s(), shown()) == (0, 0)


def test_a_probe_that_is_cancelled_lets_the_next_one_through() -> None:
    clock = Clock()
    breaker = Breaker(1, 30.0, clock)
    calls(breaker, False)
    clock.time = 30.0
    with pytest.raises(KeyboardInterrupt), breaker.call():
        raise KeyboardInterrupt
    assert breaker.wait_s() == 0


def one(event: str) -> Item:
    return Item(event, f"demo:{event}", Rank(True, datetime(2026, 11, 24, tzinfo=UTC), event), {})


def test_patience_ends_for_a_named_item_alone_and_never_for_an_outage() -> None:
    clock = Clock()
    patience = Patience(600.0, clock)
    items = [one("named"), one("outage"), one("good")]
    outcomes: list[Outcome] = [Retry("crm-conflict", named=True), Retry("crm-status-503"), Ok(None)]
    for clock.time in (0.0, 300.0, 600.0):
        assert patience.judge(items, outcomes) == outcomes
    clock.time = 601.0
    assert patience.judge(items, outcomes) == [Reject("crm-conflict-too-long"), *outcomes[1:]]


def test_patience_begins_anew_after_a_success_or_when_an_item_is_gone() -> None:
    clock = Clock()
    patience = Patience(600.0, clock)
    items, named = [one("a")], [Retry("crm-conflict", named=True)]
    patience.judge(items, named)
    clock.time = 500.0
    patience.judge(items, [Ok(None)])
    patience.judge(items, named)
    clock.time = 1_000.0
    assert patience.judge(items, named) == named
    patience.judge([one("b")], [Ok(None)])
    clock.time = 5_000.0
    assert patience.judge(items, named) == named
