from __future__ import annotations

import json
import re
from collections import Counter
from datetime import date
from decimal import Decimal
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from ops.blu import people
from ops.blu.bodies import Callback, callbacks
from ops.blu.ledger import Ledger
from ops.blu.text import CANONICAL, DOCUMENTED, Digits, Stopped, Style, Unescaped, write
from schemas.blu import decode_callback
from schemas.event import dial_result
from schemas.mapping import mapped
from schemas.merchants import Merchant

DAY = date(2026, 11, 24)
KUALA_LUMPUR = ZoneInfo("Asia/Kuala_Lumpur")
MERCHANT = Merchant(name="demo", timezone=KUALA_LUMPUR)


def made(seed: int, count: int = 400) -> list[Callback]:
    return list(callbacks(seed, DAY, KUALA_LUMPUR, count))


@pytest.mark.parametrize("seed", range(20))
def test_the_receivers_decoder_finds_the_ids_the_content_and_the_event_that_the_simulator_expects(seed: int) -> None:
    ledger = Ledger("demo")
    for callback in made(seed):
        body = decode_callback(callback.body)
        (record,) = body.records
        assert (body.task_id, record.record_id) == (callback.task_id, callback.record_id)
        assert (body.unreadable, body.envelope) == ([], None)
        assert record.content == callback.canonical
        event = dial_result("demo", body.task_id, record, 0)
        assert event.event_id == ledger.call(callback).event_id


@pytest.mark.parametrize("seed", range(5))
def test_the_mapping_reads_the_call_time_and_the_conclusion_of_the_richer_kind(seed: int) -> None:
    for callback in made(seed):
        event = dial_result("demo", callback.task_id, decode_callback(callback.body).records[0], 0)
        read = mapped(event.record(), MERCHANT)
        assert read.called_at == callback.called_at
        assert (read.conclusion in people.CONCLUSIONS) == (callback.called_at is not None)
        assert read.name


def test_the_same_seed_and_day_make_the_same_callbacks_and_a_longer_run_begins_like_a_shorter_one() -> None:
    assert made(7, 100) == made(7, 100)
    assert made(7, 100) == list(islice(callbacks(7, DAY, KUALA_LUMPUR, 500), 100))
    assert made(7, 100) != made(8, 100)
    assert made(7, 100) != list(callbacks(7, date(2026, 11, 25), KUALA_LUMPUR, 100))


def test_no_two_callbacks_are_the_same_result_within_a_seed_or_over_seeds() -> None:
    ledger = Ledger("demo")
    for seed in range(10):
        for callback in made(seed, 1_000):
            ledger.call(callback)
    assert len(ledger.entries) == 10_000


def test_contacts_are_called_several_times_with_different_conclusions() -> None:
    per_contact: dict[str, set[str]] = {}
    for callback in made(1, 2_000):
        record = json.loads(callback.canonical)
        per_contact.setdefault(callback.record_id, set()).add(record.get("conclusion", "plain"))
    assert sum(len(conclusions) > 1 for conclusions in per_contact.values()) > 200


def test_all_kinds_of_writing_occur_and_only_the_defective_ones_are_not_json() -> None:
    writings = Counter[str]()
    for callback in made(2, 2_000):
        writings[callback.writing] += 1
        stopped = re.search(rb'\d\.\s*"', callback.body) is not None
        unescaped = re.search(rb':\s*"\{"\w', callback.body) is not None
        assert stopped == (callback.writing in ("stop", "both"))
        assert unescaped == (callback.writing in ("unescaped", "both"))
        if callback.writing == "good":
            json.loads(callback.body)
        else:
            with pytest.raises(json.JSONDecodeError):
                json.loads(callback.body)
    assert min(writings[kind] for kind in ("good", "stop", "unescaped", "both")) > 200


def test_people_are_made_up_with_masked_mobiles_names_of_many_scripts_and_numbers_beyond_a_double() -> None:
    records = [json.loads(callback.canonical, parse_float=Decimal) for callback in made(3, 2_000)]
    assert all(re.fullmatch(r"01\d\d\*{4}\d{4}", record["mobile"]) for record in records)
    names = "".join(record["name"] for record in records)
    assert re.search("[\u4e00-\u9fff]", names)
    assert re.search("[\u0600-\u06ff]", names)
    assert "binti" in names
    rates = [rate for record in records if (rate := record["callVars"].get("rate"))]
    assert any(Decimal(float(rate)) != rate for rate in rates)
    assert any(record["callVars"].get("ledger", 0) > 2**64 for record in records)
    times = [record["slots"]["paymentTime"] for record in records if "slots" in record]
    assert None in times
    assert any(time and time[0] == time[1] for time in times)
    assert any(record.get("scripts") for record in records)


def test_the_documented_body_can_be_written_to_the_byte() -> None:
    ext_vars, call_vars = {"key": "string", "intkey": 10000}, {"name": "Bob", "salary": 10000}
    record = {"id": 55667448, "name": "Anoj Mohoo", "mobile": "0177****3990"}
    record |= {"extVars": Unescaped(ext_vars), "callVars": Unescaped(call_vars)}
    text = write({"taskId": Stopped(66635573), "records": [record]}, DOCUMENTED)
    # The page leaves one blank out: `"intkey":10000`; what it says is the same.
    assert text.replace('key": 10000', 'key":10000').replace('ary": 10000', 'ary":10000') == DOCUMENTED_BODY


DOCUMENTED_BODY = """{
    "taskId": 66635573.
    "records": [
        {
            "id": 55667448,
            "name": "Anoj Mohoo",
            "mobile": "0177****3990",
            "extVars": "{"key": "string", "intkey":10000}",
            "callVars": "{"name": "Bob", "salary":10000}"
        }
    ]
}"""


def test_the_canonical_form_sorts_keys_at_every_level_and_keeps_digits() -> None:
    value = {"b": [{"z": Digits("1.50"), "a": None}, {}, []], "a": "é\n", "甲": True, "B": 10**30}
    assert write(value, CANONICAL) == '{"B":1%s,"a":"é\\n","b":[{"a":null,"z":1.50},{},[]],"甲":true}' % ("0" * 30)
    assert write({"a": "é"}, Style(ascii_only=True)) == '{"a":"\\u00e9"}'
