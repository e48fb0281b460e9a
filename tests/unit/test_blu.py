from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import blu
from schemas.blu import UnreadableCallback, decode_callback

from .json_texts import Number, objects, read, records, spaces, values, whole_numbers, write

DOCUMENTED = (Path(__file__).parent / "data" / "documented-body.txt").read_bytes()


def body(record: str, task: str = "66635573", stop: str = ",") -> bytes:
    return f'{{"taskId": {task}{stop} "records": [{record}]}}'.encode()


def reason(callback: bytes) -> str:
    with pytest.raises(UnreadableCallback) as raised:
        decode_callback(callback)
    assert raised.value.reason in blu.REASONS
    return raised.value.reason


def only(callback: bytes) -> Any:
    (record,) = decode_callback(callback).records
    return read(record.content)


def test_the_documented_body_is_read_as_it_is_meant() -> None:
    read_body = decode_callback(DOCUMENTED)
    assert read_body.task_id == "66635573"
    assert read_body.records[0].record_id == "55667448"
    assert json.loads(read_body.records[0].content) == {
        "id": 55667448,
        "name": "Anoj Mohoo",
        "mobile": "0177****3990",
        "extVars": {"key": "string", "intkey": 10000},
        "callVars": {"name": "Bob", "salary": 10000},
    }


def test_the_documented_body_is_kept_byte_for_byte() -> None:
    assert len(DOCUMENTED) == 288
    assert not DOCUMENTED.endswith(b"\n")


@given(record=records, task=whole_numbers.filter(lambda n: len(n) <= 200), space=spaces)
def test_no_digit_field_or_text_changes(record: dict[str, Any], task: Number, space: str) -> None:
    text = write({"taskId": task, "records": [record]}, space)
    decoded = decode_callback(text.encode())
    assert decoded.task_id == task
    assert decoded.records[0].record_id == record["id"]
    assert read(decoded.records[0].content) == record


@given(record=records, space=spaces, stop=st.sampled_from([",", ". ", ".\n    ", "."]), embed=st.booleans())
def test_both_defects_say_the_same_as_good_json(record: dict[str, Any], space: str, stop: str, embed: bool) -> None:
    good = write({"taskId": Number("66635573"), "records": [record]}, space).encode()
    ext, call = (write(record[name], space) for name in ("extVars", "callVars"))
    rest = write({name: value for name, value in record.items() if name not in ("extVars", "callVars")}, space)
    quote = '"' if embed else ""
    defective = body(f'{rest[:-1]}, "extVars": {quote}{ext}{quote}, "callVars":{quote}{call}{quote} }}', stop=stop)
    assert decode_callback(defective) == decode_callback(good)


@given(record=records, space=spaces)
def test_escaped_strings_of_objects_are_read_as_objects(record: dict[str, Any], space: str) -> None:
    escaped = record | {"extVars": write(record["extVars"], space), "callVars": write(record["callVars"])}
    assert only(body(write(escaped))) == record


@given(name=st.sampled_from(["note", "extra", "records2"]), value=objects)
def test_no_other_field_is_unwrapped(name: str, value: Any) -> None:
    record = {"id": Number("1"), name: write(value)}
    assert only(body(write(record))) == record


@given(values)
def test_the_defects_are_found_in_any_field(value: Any) -> None:
    inside = write({"a": value, "b": [{"c": value}]})
    assert only(body(f'{{"id": 1, "slots": ["{inside}"], "n": 5. "z": "{inside}"}}', stop=". ")) == {
        "id": "1",
        "slots": [read(inside)],
        "n": "5",
        "z": read(inside),
    }


@given(st.binary(max_size=200))
def test_whatever_arrives_is_read_or_refused_with_a_reason(junk: bytes) -> None:
    try:
        decode_callback(junk)
    except UnreadableCallback as error:
        assert error.reason in blu.REASONS


@given(st.integers(0, len(DOCUMENTED) - 1), st.binary(min_size=0, max_size=3))
def test_a_broken_documented_body_is_never_read_as_another_contact(at: int, junk: bytes) -> None:
    try:
        decoded = decode_callback(DOCUMENTED[:at] + junk + DOCUMENTED[at + 1 :])
    except UnreadableCallback:
        return
    assert all(isinstance(json.loads(record.content), dict) for record in decoded.records)


@pytest.mark.parametrize(
    ("callback", "expected"),
    [
        (b"\xff\xfe\x00", blu.NOT_UTF8),
        (DOCUMENTED[:-30], blu.NOT_JSON),
        (b"", blu.NOT_JSON),
        (b'{"taskId": 1, "records": []} x', blu.NOT_JSON),
        (b'{"taskId": NaN, "records": []}', blu.NOT_JSON),
        (body('{"id": 1, "a": 0. "b": 1.5. "c": 2}'), blu.NOT_JSON),
        (body('{"id": 1, "list": [1. 2]}'), blu.NOT_JSON),
        (body('{"id": 1, "extVars": "{"a": 1"}'), blu.NOT_JSON),
        (b"[" * 100_000, blu.TOO_DEEP),
        (body('{"id": 1, "a": ' + "[" * 99 + "]" * 99 + "}"), blu.TOO_DEEP),
        (body('{"id": 1, "extVars": ' + '"{"a":' * 100 + '1}"' * 100 + "}"), blu.TOO_DEEP),
        (b"[]", blu.NO_RECORDS),
        (b'{"taskId": 1}', blu.NO_RECORDS),
        (b'{"taskId": 1, "records": {}}', blu.NO_RECORDS),
        (b'{"records": []}', blu.NO_TASK),
        (b'{"taskId": 1.0, "records": []}', blu.NO_TASK),
        (b'{"taskId": "", "records": []}', blu.NO_TASK),
        (body('{"name": "x"}'), blu.NO_ID),
        (body('{"id": 1.5}'), blu.NO_ID),
        (body('{"id": true}'), blu.NO_ID),
        (body('{"id": null}'), blu.NO_ID),
        (body(f'{{"id": "{"x" * 257}"}}'), blu.NO_ID),
        (body("7"), blu.NO_ID),
        (body('{"id": 1, "a": 1, "a": 2}'), blu.NOT_REPRESENTABLE),
        (body('{"id": 1, "a": 1, "\\u0061": 2}'), blu.NOT_REPRESENTABLE),
        (body('{"id": 1, "a": 1, "a": 2, "b": "\\u003a"}'), blu.NOT_REPRESENTABLE),
        (body('{"id": 1, "a": -0, "b": "\\u002D"}'), blu.NOT_REPRESENTABLE),
        (body('{"id": 1, "x": [{"records": 1, "records": 1}]}'), blu.NOT_REPRESENTABLE),
        (b'{"taskId": 1, "taskId": 1, "records": []}', blu.NOT_REPRESENTABLE),
        (b'{"id": 1, "taskId": 2, "a": 1, "a": 2, "x": {"records": 1}}', blu.NOT_REPRESENTABLE),
        (body('{"id": 1, "a": "\\ud800"}'), blu.NOT_REPRESENTABLE),
        (body('{"id": 1, "a": "\\ud800"}', stop=". "), blu.NOT_REPRESENTABLE),
        (body('{"id": 1, "a": -0}'), blu.NOT_REPRESENTABLE),
        (body('{"id": 1, "a": 1e99999999999999999999}'), blu.NOT_REPRESENTABLE),
        (body(f'{{"id": 1, "a": {"1" * 5000}}}'), blu.NOT_REPRESENTABLE),
        (body(",".join(['{"id": 1}'] * 1001)), blu.TOO_MANY_RECORDS),
    ],
)
def test_what_cannot_be_read_has_a_typed_reason(callback: bytes, expected: str) -> None:
    assert reason(callback) == expected


def test_a_byte_order_mark_is_no_content() -> None:
    assert decode_callback(b"\xef\xbb\xbf" + DOCUMENTED) == decode_callback(DOCUMENTED)


def test_an_empty_list_of_records_is_empty() -> None:
    assert decode_callback(b'{"taskId": 1, "records": []}') == blu.CallbackBody("1", [], [])


def test_a_body_that_is_itself_a_record_counts_as_one() -> None:
    assert decode_callback(b'{"taskId": "007", "id": 5, "a": 1.50}') == decode_callback(
        body('{"id":5,"a":1.50}', '"007"')
    )


def test_ids_stay_as_they_came() -> None:
    decoded = decode_callback(body('{"id": "00012"}', task='"0077"'))
    assert (decoded.task_id, decoded.records[0].record_id) == ("0077", "00012")


def test_one_bad_record_leaves_the_good_ones() -> None:
    decoded = decode_callback(body('{"id": 1}, {"name": "x"}, {"id": 3}'))
    assert [record.record_id for record in decoded.records] == ["1", "3"]
    assert decoded.unreadable == [blu.UnreadableRecord(1, blu.NO_ID)]


def test_what_stands_beside_the_records_is_kept() -> None:
    decoded = decode_callback(b'{"taskId": 1, "version": 2.0, "records": [{"id": 1}]}')
    assert decoded.envelope == b'{"version":2.0}'


def test_an_inner_string_that_would_lose_a_key_stays_a_string() -> None:
    inner = '{"a":1,"a":2}'
    assert only(body(write({"id": Number("1"), "extVars": inner})))["extVars"] == inner


def test_an_empty_object_in_quotes_is_the_good_string_that_it_is() -> None:
    assert only(body('{"id": 1, "note": "{}"}', stop=". ")) == {"id": "1", "note": "{}"}


@pytest.mark.parametrize(
    "hostile", [b'"{' * 500_000, b"[" * 1_000_000, b"{" * 1_000_000, b'{"a":' * 200_000, b'{"a":"{' * 140_000]
)
def test_a_megabyte_of_brackets_is_judged_at_once(hostile: bytes) -> None:
    started = time.process_time()
    reason(hostile)
    assert time.process_time() - started < 1  # less than a millisecond here; minutes, where it is not linear


@pytest.mark.parametrize("unit", [b'"{",', b'"{","a":', b'{"a":"{",', b'1. "a":', b'"{"a":1,', b'"{"a":[{"b":"{"'])
def test_time_is_bounded_on_text_made_to_backtrack(unit: bytes) -> None:
    started = time.process_time()
    reason(b'{"a":[' + unit * (1_000_000 // len(unit)))
    assert time.process_time() - started < 20  # 0.15 s at most here
