from __future__ import annotations

from zoneinfo import ZoneInfo

from consumers.sinks.crm.mapping import NAMES, item
from schemas.mapping import newest_key
from schemas.merchants import Fields, Merchant
from tests.crm import event

ACME = Merchant(name="demo", timezone=ZoneInfo("Asia/Kuala_Lumpur"), fields=Fields(conclusion="outcome"))


def test_properties_are_strings_by_the_merchants_names() -> None:
    one = event("55667448", name="Bob", mobile="138****0101", outcome="HPTP", callTime="2024-08-15 07:00:00")
    assert item(one, ACME).contact == "demo:55667448"
    assert item(one, ACME).properties == {
        "dial_result_event_id": one.event_id,
        "dial_result_task_id": "66635573",
        "dial_result_name": "Bob",
        "dial_result_mobile": "138****0101",
        "dial_result_conclusion": "HPTP",
        "dial_result_called_at": "2024-08-14T23:00:00.000Z",
        "dial_result_received_at": "2023-11-14T22:13:20.000Z",
    }


def test_what_is_absent_is_sent_empty() -> None:
    properties = item(event("1"), None).properties
    assert properties.keys() == set(NAMES.values())
    assert properties["dial_result_name"] == properties["dial_result_called_at"] == ""


def test_the_rank_is_the_one_rule() -> None:
    one = event("1")
    assert item(one, None).rank == newest_key(one, None)


def test_a_mapping_may_leave_out_and_rename() -> None:
    assert item(event("1", name="Bob"), None, {"name": "firstname"}).properties == {"firstname": "Bob"}
