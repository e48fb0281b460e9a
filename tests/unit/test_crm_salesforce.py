from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from consumers.sinks.crm.answers import Answer, Unclear
from consumers.sinks.crm.mapping import item
from consumers.sinks.crm.outcome import Ok, Outcome, Reject, Retry
from consumers.sinks.crm.salesforce import Salesforce
from tests.crm import event, sandbox, settings

PATH = "/services/data/v67.0/composite/sobjects/Dial_Result__c/Dial_Contact__c"
SALESFORCE = Salesforce(settings("https://crm", vendor="salesforce", pause_s=7.0))
NAMES = settings("https://crm", vendor="salesforce").field_map
ITEMS = [item(event(str(number)), None, NAMES) for number in range(3)]


def read(status: int, body: Any, **headers: str) -> list[Outcome | Unclear]:
    answer = Answer(status, {name.replace("_", "-"): text for name, text in headers.items()}, json.dumps(body).encode())
    return SALESFORCE.read(answer, ITEMS)


def good(number: int) -> dict[str, Any]:
    return {"id": f"a0{number}", "success": True, "errors": [], "created": False}


def bad(*codes: str) -> dict[str, Any]:
    return {"success": False, "errors": [{"statusCode": code, "message": "Bob 138", "fields": []} for code in codes]}


def test_each_record_is_judged_by_its_own_result_in_their_order() -> None:
    assert read(200, [good(1), bad("STRING_TOO_LONG"), good(3)]) == [
        Ok("a01"),
        Reject("crm-string-too-long"),
        Ok("a03"),
    ]


@pytest.mark.parametrize("code", ["UNABLE_TO_LOCK_ROW", "DUPLICATE_VALUE"])
def test_what_another_writer_holds_is_tried_again_within_limits(code: str) -> None:
    reason = f"crm-{code.lower().replace('_', '-')}"
    assert read(200, [good(1), bad(code), good(3)])[1] == Retry(reason, named=True)


@pytest.mark.parametrize("body", [[], [good(1)], [good(1), good(2), 7], {"a": 1}, None, "x"])
def test_results_that_do_not_fit_the_records_say_nothing(body: Any) -> None:
    assert read(200, body) == [Retry("crm-no-verdict")] * 3


def test_an_answer_without_a_code_or_with_free_text_gives_no_text_away() -> None:
    assert read(200, [bad(), bad("Bob's mobile"), good(3)])[:2] == [Reject("crm-unknown")] * 2


def test_403_is_the_limit_or_the_token() -> None:
    assert read(403, [{"errorCode": "REQUEST_LIMIT_EXCEEDED"}]) == [Retry("crm-rate-limit", 600.0)] * 3
    assert read(403, [{"errorCode": "REQUEST_LIMIT_EXCEEDED"}], Retry_After="5") == [Retry("crm-rate-limit", 5.0)] * 3
    assert read(403, [{"errorCode": "API_DISABLED_FOR_ORG"}]) == [Retry("crm-unauthorised", 7.0)] * 3
    assert read(401, [{"errorCode": "INVALID_SESSION_ID"}]) == [Retry("crm-unauthorised", 7.0)] * 3


def test_a_record_refused_for_want_of_rights_pauses_and_is_no_dead_letter() -> None:
    assert read(200, [good(1), bad("INSUFFICIENT_ACCESS"), good(3)])[1] == Retry("crm-unauthorised", 7.0)


def test_a_malformed_call_is_somebodys_fault() -> None:
    assert read(400, [{"errorCode": "JSON_PARSER_ERROR"}]) == [Unclear(Reject("crm-json-parser-error"))] * 3


def record(contact: str | None = "demo:1", **more: Any) -> dict[str, Any]:
    return {"attributes": {"type": "Dial_Result__c"}, "Dial_Contact__c": contact} | more


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([record(), record("demo:2")], [None, None]),
        ([record(), record(), record("demo:2")], ["DUPLICATE_VALUE", "DUPLICATE_VALUE", None]),
        ([record(attributes={"type": "Contact"})], ["INVALID_TYPE"]),
        ([record(None)], ["MISSING_ARGUMENT"]),
        ([record(Id="a01")], ["INVALID_FIELD_FOR_INSERT_UPDATE"]),
        ([record(Name__c="x" * 256), record("demo:2", Name__c="x" * 255)], ["STRING_TOO_LONG", None]),
        ([record(name="x")], ["INVALID_FIELD"]),
    ],
)
async def test_the_sandbox_refuses_single_records(tmp_path: Path, records: Any, expected: Any) -> None:
    async with sandbox(tmp_path / "s") as crm:
        status, results, _ = await crm.call("PATCH", PATH, {"allOrNone": False, "records": records})
        assert status == 200
        assert [one["errors"][0]["statusCode"] if one["errors"] else None for one in results] == expected
        assert [one["success"] for one in results] == [code is None for code in expected]


@pytest.mark.parametrize(
    ("path", "records", "status"),
    [
        (PATH, [record(f"demo:{number}") for number in range(201)], 400),
        (PATH, [record(Dial_Result_Called_At__c="")], 400),
        (PATH, [record(Some__c=7)], 400),
        (PATH, [{"Dial_Contact__c": "demo:1"}], 400),
        (PATH, [], 400),
        (PATH, None, 400),
        (PATH.replace("Dial_Result__c", "Lead"), [record()], 404),
    ],
)
async def test_the_sandbox_refuses_whole_calls(tmp_path: Path, path: str, records: Any, status: int) -> None:
    async with sandbox(tmp_path / "s") as crm:
        answered, body, _ = await crm.call("PATCH", path, {"records": records})
        assert answered == status
        assert body[0].keys() == {"message", "errorCode"}
        assert await crm.effects() == []


async def test_over_the_limit_the_sandbox_answers_403(tmp_path: Path) -> None:
    async with sandbox(tmp_path / "s", limit=1) as crm:
        await crm.call("PATCH", PATH, {"records": [record()]})
        status, body, headers = await crm.call("PATCH", PATH, {"records": [record()]})
        assert (status, body[0]["errorCode"]) == (403, "REQUEST_LIMIT_EXCEEDED")
        assert headers["Sforce-Limit-Info"] == "api-usage=1/1"
