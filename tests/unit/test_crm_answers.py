from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from consumers.sinks.crm.answers import Answer, Unclear
from consumers.sinks.crm.hubspot import HubSpot
from consumers.sinks.crm.mapping import Item, Rank
from consumers.sinks.crm.outcome import Ok, Outcome, Reject, Retry
from tests.crm import settings

PAUSE_S = 30.0
AT = datetime(2026, 11, 24, tzinfo=UTC)


def one(number: int) -> Item:
    return Item(f"e-{number}", f"demo:{number}", Rank(True, AT, f"e-{number}"), {})


ITEMS = [one(1), one(2), one(3)]


def read(given: Answer, items: list[Item], pause_s: float) -> list[Outcome | Unclear]:
    return HubSpot(settings("http://crm", pause_s=pause_s)).read(given, items)


def answer(status: int, body: Any, **headers: str) -> Answer:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, text)


def error(category: str, **more: Any) -> dict[str, Any]:
    return {"status": "error", "category": category, "message": "Bob's mobile 138****0101 is wrong"} | more


@pytest.mark.parametrize("status", [200, 201, 207])
def test_each_item_is_judged_by_the_body_and_never_by_the_status(status: int) -> None:
    body = {
        "results": [
            {"id": "11", "properties": {"dial_contact": "demo:1"}},
            {"id": "13", "objectWriteTraceId": "e-3", "properties": {}},
        ],
        "numErrors": 1,
        "errors": [error("VALIDATION_ERROR", context={"objectWriteTraceId": ["e-2"]})],
    }
    assert read(answer(status, body), ITEMS, PAUSE_S) == [Ok("11"), Reject("crm-validation-error"), Ok("13")]


def test_errors_may_name_contacts() -> None:
    body = {"results": [], "errors": [error("INVALID_EMAIL", context={"ids": ["demo:1", "demo:3"]})]}
    reject = Reject("crm-invalid-email")
    assert read(answer(207, body), ITEMS, PAUSE_S) == [reject, Retry("crm-no-verdict"), reject]


def test_an_error_without_a_name_leaves_the_unmentioned_ones_unclear() -> None:
    body = {"results": [{"id": "11", "objectWriteTraceId": "e-1"}], "errors": [error("VALIDATION_ERROR")]}
    unclear = Unclear(Reject("crm-validation-error"))
    assert read(answer(200, body), ITEMS, PAUSE_S) == [Ok("11"), unclear, unclear]


def test_some_errors_pass() -> None:
    body = {"results": [], "errors": [error("RATE_LIMITS", context={"ids": [f"demo:{n}"]}) for n in (1, 2, 3)]}
    assert read(answer(207, body), ITEMS, PAUSE_S) == [Retry("crm-rate-limits")] * 3


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff", {"results": 7}, {"results": [1], "errors": 1}])
def test_a_good_status_alone_says_nothing(body: Any) -> None:
    assert read(answer(200, body), ITEMS, PAUSE_S) == [Retry("crm-no-verdict")] * 3


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_pauses(status: int) -> None:
    assert read(answer(status, error("INVALID_AUTHENTICATION")), ITEMS, 7.0) == [Retry("crm-unauthorised", 7.0)] * 3


def test_a_refused_token_may_come_as_an_items_error() -> None:
    body = {"errors": [error("MISSING_SCOPES")]}
    assert read(answer(200, body), ITEMS, 7.0) == [Retry("crm-unauthorised", 7.0)] * 3


@pytest.mark.parametrize(
    ("body", "headers", "after_s"),
    [
        ({}, {"Retry_After": "3"}, 3.0),
        ({"policyName": "SECONDLY"}, {}, 1.0),
        ({"policyName": "TEN_SECONDLY_ROLLING"}, {}, 10.0),
        ({"policyName": "DAILY"}, {}, 600.0),
        (b"<html>", {"Retry_After": "soon"}, 10.0),
        ({}, {"Retry_After": "999999999"}, 3600.0),
    ],
)
def test_429_says_how_long(body: Any, headers: dict[str, str], after_s: float) -> None:
    assert read(answer(429, body, **headers), ITEMS, PAUSE_S) == [Retry("crm-rate-limit", after_s)] * 3


@pytest.mark.parametrize(
    ("status", "after_s"), [(500, None), (502, None), (408, None), (423, None), (302, 30.0), (404, 30.0), (405, 30.0)]
)
def test_other_refusals_are_never_the_items_fault(status: int, after_s: float | None) -> None:
    assert read(answer(status, error("X")), ITEMS, PAUSE_S) == [Retry(f"crm-status-{status}", after_s)] * 3


def test_a_server_may_ask_for_time() -> None:
    assert read(answer(503, b"", Retry_After="12"), ITEMS, PAUSE_S) == [Retry("crm-status-503", 12.0)] * 3


def test_a_date_may_stand_for_the_seconds() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    (verdict, *_) = read(answer(503, b"", Retry_After=at), ITEMS, PAUSE_S)
    assert isinstance(verdict, Retry)
    assert verdict.after_s == pytest.approx(90, abs=60)


def test_409_is_the_conflict_of_one_of_them_and_has_a_limit() -> None:
    verdict = Unclear(Retry("crm-status-409", named=True))
    assert read(answer(409, error("CONFLICT")), ITEMS, PAUSE_S) == [verdict] * 3


def test_a_conflict_of_one_item_is_named_and_an_outage_is_not() -> None:
    body = {"results": [], "errors": [error("CONFLICT", context={"ids": ["demo:1"]}), error("INTERNAL_ERROR")]}
    named, *lost = read(answer(200, body), ITEMS, PAUSE_S)
    assert named == Retry("crm-conflict", named=True)
    assert lost == [Retry("crm-internal-error")] * 2


def test_400_is_somebodys_fault() -> None:
    assert read(answer(400, error("VALIDATION_ERROR")), ITEMS, PAUSE_S) == [Unclear(Reject("crm-validation-error"))] * 3


@pytest.mark.parametrize("category", ["Bob 138****0101", "", None, 7, "A" * 100])
def test_only_categories_become_reasons(category: Any) -> None:
    assert read(answer(400, error(category)), ITEMS, PAUSE_S) == [Unclear(Reject("crm-unknown"))] * 3
