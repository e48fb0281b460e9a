"""Rules of the quarantine: they mend what they are for, exactly; they are bounded; and masks let nothing through."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.blu.bodies import callbacks
from ops.quarantining import masking
from ops.quarantining.kept import Kept
from ops.quarantining.outcome import results
from ops.quarantining.rules import Rule, RuleError, load_rule
from schemas.blu import UnreadableCallback
from schemas.event import event_id

AT = datetime(2026, 11, 24, 3, 14, 15, 926_000, UTC)
GBK = {"encoding": "gbk"}


def kept(body: bytes, index: int | None = None, reason: str = "not-utf8") -> Kept:
    return Kept(0, 7, 1, "demo", reason, AT, index, body)


def rule(**says: Any) -> Rule:
    return Rule.model_validate(says)


def test_gbk_bodies_become_the_very_results_that_they_would_have_been() -> None:
    mended = 0
    for callback in callbacks(5, date(2026, 11, 24), ZoneInfo("UTC"), 400):
        try:
            body = callback.body.decode().encode("gbk")
            body.decode()
        except UnicodeEncodeError:
            continue
        except UnicodeDecodeError:
            (event,) = results(kept(body), rule(**GBK))
            assert event.event_id == event_id("demo", callback.task_id, callback.record_id, callback.canonical)
            assert (event.received_at, event.source) == (AT, "callback")
            mended += 1
    assert mended > 30


def test_a_body_that_is_utf8_already_is_not_read_as_anything_else() -> None:
    body = '{"taskId":1,"custId":2,"name":"陈伟强"}'.encode()
    (event,) = results(kept(body), rule(**GBK, rename={"record": {"custId": "id"}}))
    assert event.record() == {"id": 2, "name": "陈伟强"}


def test_replacements_come_in_order_and_a_rename_changes_no_digit() -> None:
    body = b'{"task":1,"records":[{"custId":9007199254740993,"rate":1.50,"amount":1,50,"id2":{"custId":3}}]}'
    says = rule(
        replace=[{"pattern": r'("amount":\d+),(\d+)', "with": r"\1.\2"}, {"pattern": "1.50", "with": "1.5000"}],
        rename={"record": {"custId": "id"}, "body": {"task": "taskId"}},
    )
    (event,) = results(kept(body, reason="not-json"), says)
    assert bytes(event.result) == b'{"amount":1.5000,"id":9007199254740993,"id2":{"custId":3},"rate":1.5000}'
    assert event.task_id == "1"


def test_a_rename_overwrites_nothing_and_reads_blus_own_defects() -> None:
    body = b'{"taskId": 7. "records":[{"custId":1,"id":2,"extVars":"{"a": 1.0}"}]}'
    (event,) = results(kept(body), rule(rename={"record": {"custId": "id"}}))
    assert bytes(event.result) == b'{"custId":1,"extVars":{"a":1.0},"id":2}'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"taskId":1,"records":[{"no":1}]}', "no-id"),
        (b"[" * 100_000, "too-deep"),
        (b'{"custId":1,"custId":2,"taskId":1}', "not-representable"),
        (b'{"custId":1,"taskId":1', "not-json"),
        (b'["custId"]', "not-representable"),
    ],
)
def test_what_a_rename_cannot_mend_stays_for_a_typed_reason(body: bytes, reason: str) -> None:
    with pytest.raises(UnreadableCallback) as refused:
        results(kept(body), rule(rename={"record": {"custId": "id"}}))
    assert refused.value.reason == reason


def test_of_one_bad_record_among_good_ones_that_one_alone_is_published() -> None:
    body = b'{"taskId":1,"records":[{"id":1},{"custId":2},{"id":3}]}'
    (event,) = results(kept(body, index=1), rule(rename={"record": {"custId": "id"}}))
    assert event.record_id == "2"
    with pytest.raises(UnreadableCallback, match="no-id"):
        results(kept(body, index=1), None)
    with pytest.raises(UnreadableCallback, match="no-such-record"):
        results(kept(b'{"taskId":1,"records":[{"id":1}]}', index=1), None)


def test_a_body_is_readable_only_when_all_of_it_is() -> None:
    with pytest.raises(UnreadableCallback, match="no-id"):
        results(kept('{"taskId":1,"records":[{"id":"陈"},{"x":1}]}'.encode("gbk")), rule(**GBK))


def test_no_rule_can_take_long_or_grow_without_bounds() -> None:
    body = b'"' + b"a" * 1_000_000 + b"!"
    begun = time.process_time()
    for pattern in ("(a+)+$", "(a|a)*b", "(.*)(.*)(.*)(.*)(.*)x"):
        with pytest.raises(UnreadableCallback):
            results(kept(body), rule(replace=[{"pattern": pattern, "with": ""}]))
    assert time.process_time() - begun < 60  # one that backtracks takes years
    with pytest.raises(UnreadableCallback, match="too-many-matches"):
        rule(replace=[{"pattern": "a", "with": "b" * 1000}]).apply(body)
    with pytest.raises(UnreadableCallback, match="too-large"):
        rule(replace=[{"pattern": "a", "with": "b" * 1000}]).apply(b"a" * 9_000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('encoding = "utf-7"', "encoding"),
        ('[[replace]]\npattern = "(a"\nwith = ""', "no RE2 pattern"),
        ('[[replace]]\npattern = "(?=a)"\nwith = ""', "no RE2 pattern"),
        ('run = "rm"', "run"),
        ("encoding", "not TOML"),
        ('[[replace]]\npattern = "a"\nwith = ""\n' * 21, "replace"),
    ],
)
def test_a_rule_file_that_cannot_be_is_said(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "rule.toml"
    file.write_text(text)
    with pytest.raises(RuleError, match=said):
        load_rule(file)


def test_a_mask_keeps_names_of_documented_fields_and_nothing_else() -> None:
    body = '{"taskId": 5. "records": [{"id": 5, "name": "陈", "extVars": "{"Anoj": "1"}", "x": true}]}'.encode()
    shown = '{ "taskId": 0. "records": [ { "id": 0, "name": "…3", "extVars": "…1"?"…2"0"…1", "…1": true} ] }'
    assert masking.masked(body).replace(" ", "") == shown.replace(" ", "")


SECRET = st.text(st.characters(codec="utf-8", exclude_characters='{}[]:,. "\\0?…1234567890\n\r\t'), min_size=5)


@given(SECRET, st.sampled_from(["gbk", "utf-8", "utf-16"]), st.binary(max_size=20), st.integers(0, 5))
def test_no_mask_and_no_shape_lets_a_word_through(secret: str, encoding: str, noise: bytes, quotes: int) -> None:
    said = secret.encode(encoding, errors="ignore")
    body = b'{"taskId":1,"records":[{"name":' + b'"' * quotes + noise + said + b'","' + said + b'":' + said + b"}]}"
    for shown in (masking.masked(body), masking.shape(body)):
        rest = shown
        for name in ("taskId", "records", "name", "true", "false", "null"):
            rest = rest.replace(name, "")
        assert not [letter for letter in rest if letter.isalpha()], shown


def test_bodies_of_one_kind_have_one_shape() -> None:
    one = '{"taskId":12,"records":[{"id":1,"name":"陈","extVars":{"a":1},"scripts":[{"text":"x"}]}]}'
    other = '{"taskId": 7, "records": [{"id": 99, "name": "林伟强", "extVars": {}, "scripts": []}]}'
    assert masking.shape(one.encode("gbk")) == masking.shape(other.encode("gbk"))
    assert masking.shape(one.encode()) != masking.shape(other.replace("99", '"99"').encode())
