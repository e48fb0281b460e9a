from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from consumers.sinks.crm.field_map import DEFAULTS, FieldMap, load_field_map
from consumers.sinks.crm.mapping import item
from schemas.mapping import newest_key
from schemas.merchants import Fields, Merchant
from tests.crm import event, settings

HUBSPOT = load_field_map(None, "hubspot")

ACME = Merchant(name="demo", timezone=ZoneInfo("Asia/Kuala_Lumpur"), fields=Fields(conclusion="outcome"))


def test_properties_are_strings_by_the_merchants_names() -> None:
    one = event("55667448", name="Bob", mobile="138****0101", outcome="HPTP", callTime="2024-08-15 07:00:00")
    assert item(one, ACME, HUBSPOT).contact == "demo:55667448"
    assert item(one, ACME, HUBSPOT).properties == {
        "dial_result_event_id": one.event_id,
        "dial_result_task_id": "66635573",
        "dial_result_name": "Bob",
        "dial_result_mobile": "138****0101",
        "dial_result_conclusion": "HPTP",
        "dial_result_called_at": "2024-08-14T23:00:00.000Z",
        "dial_result_received_at": "2023-11-14T22:13:20.000Z",
    }


def test_what_is_absent_is_sent_empty() -> None:
    properties = item(event("1"), None, HUBSPOT).properties
    assert properties.keys() == set(HUBSPOT.fields.values())
    assert properties["dial_result_name"] == properties["dial_result_called_at"] == ""


def test_the_rank_is_the_one_rule() -> None:
    one = event("1")
    assert item(one, None, HUBSPOT).rank == newest_key(one, None)


def test_a_mapping_may_leave_out_and_rename() -> None:
    names = FieldMap(object="contacts", id="key", fields={"name": "firstname"})
    assert item(event("1", name="Bob"), None, names).properties == {"firstname": "Bob"}


def test_any_field_of_the_record_may_be_mapped_and_keeps_its_digits() -> None:
    fields = {
        "record.extVars.grade": "grade",
        "record.callVars": "all",
        "record.score": "score",
        "record.ok": "ok",
        "record.no.such": "none",
        "duration_s": "seconds",
    }
    names = FieldMap(object="contacts", id="key", fields=fields)
    one = event("1", extVars={"grade": "A"}, callVars={"b": [1, "x"]}, score=Decimal("1.50"), ok=True, duration="12.0")
    assert item(one, None, names).properties == {
        "grade": "A",
        "all": '{"b":[1,"x"]}',
        "score": "1.50",
        "ok": "true",
        "none": "",
        "seconds": "12.0",
    }


def test_conclusions_go_by_the_merchants_table_then_by_everybodys_else_they_stay() -> None:
    tables = {"*": {"KPTP": "Promised", "HU": "Hung up"}, "demo": {"KPTP": "Will pay"}}
    names = FieldMap.model_validate(DEFAULTS["hubspot"] | {"conclusions": tables})

    def shown(code: str) -> str:
        return item(event("1", conclusion=code), None, names).properties["dial_result_conclusion"]

    assert [shown(code) for code in ("KPTP", "HU", "NEW", "")] == ["Will pay", "Hung up", "NEW", ""]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fields = ", "not TOML"),
        ("[fields]\nnmae = 'x'", "line 2: fields: `nmae` is no field of ours; allowed: event_id, merchant"),
        ("[fields]\nname = 'x'\nmobile = 'x'", "line 2: fields: `x` is filled from two fields"),
        ("id = 'x'\n[fields]\nname = 'x'", "line 1: `x` is the id: it holds the contact, and no field"),
        ("[fields]\nname = 7", "line 2: fields.name: Input should be a valid string"),
        ("[feilds]\nname = 'x'", "line 1: feilds: unknown; allowed: object, id, fields, conclusions, webhook"),
        ("[webhook]\nbdoy = 'x'", "line 2: webhook.bdoy: unknown; allowed: method, path"),
        ("[webhook.body.a]\nb = ['{name}', '{nmae}']", "webhook.body.a.b.1: {nmae} is unknown; allowed: called_at"),
        ("[webhook]\npath = '/{nmae}'", "webhook.path: {nmae} is unknown"),
        ("[webhook.headers]\nX = '{name}'", "webhook.headers.X: {name} is unknown; allowed: event_id, token"),
        ("[webhook]\nmethod = 'GET'", "line 2: webhook.method: Input should be 'POST', 'PUT' or 'PATCH'"),
        ("[conclusions]\nKPTP = 'x'", "line 2: conclusions.KPTP: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_mapping_file_says_where_and_what_is_allowed(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "crm.toml"
    path.write_text(text)
    with pytest.raises(ValidationError) as wrong:
        settings("http://crm", vendor="webhook", mapping_file=path)
    assert f"{path}: {said}" in str(wrong.value)


def test_a_mapping_file_that_is_missing_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="No such file"):
        settings("http://crm", mapping_file=tmp_path / "none.toml")


@pytest.mark.parametrize("vendor", sorted(DEFAULTS))
def test_what_a_file_leaves_out_is_the_vendors_default(tmp_path: Path, vendor: str) -> None:
    path = tmp_path / "crm.toml"
    path.write_text("[conclusions.demo]\nKPTP = 'Promised'")
    names = load_field_map(path, vendor)
    assert names.model_copy(update={"conclusions": {}}) == load_field_map(None, vendor)
    assert names.conclusion("demo", "KPTP") == "Promised"
