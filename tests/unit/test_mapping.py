from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.blu import BluRecord
from schemas.event import DialResult, InvalidRecord, dial_result
from schemas.exact import canonical, decode, decode_decimals
from schemas.mapping import FieldReader, mapped, newest_key
from schemas.merchants import Fields, Merchant, MerchantsFileError, load_merchants
from schemas.slots import PaymentTime, PaymentTimeReader

from .json_texts import records, write

KUALA_LUMPUR = Merchant(name="acme", timezone=ZoneInfo("Asia/Kuala_Lumpur"), fields=Fields(conclusion="outcome"))


@given(record=records)
def test_any_record_is_mapped_without_an_error(record: dict[str, Any]) -> None:
    text = write(record)
    canonical(decode(text))
    for value in record.values():
        mapped(decode_decimals(text.encode()) | {"callTime": value, "duration": value, "conclusion": value}, None)


@given(record=records, name=st.sampled_from(["conclusion", "callTime", "duration", "outcome", "name", "callDuration"]))
def test_fields_are_read_from_the_text_as_from_the_record(record: dict[str, Any], name: str) -> None:
    for value in record.values():
        one = event(canonical(decode(write(record | {name: value}))), 0)
        for merchant in (None, KUALA_LUMPUR):
            assert FieldReader(merchant).read(one) == mapped(one.record(), merchant)[:5]


def test_a_number_that_nobody_can_hold_is_refused_where_it_is_read() -> None:
    with pytest.raises(InvalidRecord, match="not-json"):
        FieldReader(None).read(event(b'{"duration":1e9999999999999999999999}', 0))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-08-15 07:00:00", datetime(2024, 8, 14, 23, tzinfo=UTC)),
        ("2024-08-15T07:00:00+02:00", datetime(2024, 8, 15, 5, tzinfo=UTC)),
        (1723676400, datetime(2024, 8, 14, 23, tzinfo=UTC)),
        ("1723676400000", datetime(2024, 8, 14, 23, tzinfo=UTC)),
        ("yesterday", None),
        ("", None),
        (True, None),
        (10**40, None),
        (Decimal("1e9999999"), None),
        (Decimal("NaN"), None),
        ({"at": 1}, None),
        (None, None),
    ],
)
def test_call_times(value: Any, expected: datetime | None) -> None:
    for _ in range(2):  # the second time it is remembered
        assert mapped({"callTime": value}, KUALA_LUMPUR).called_at == expected


def test_a_merchants_own_names_count() -> None:
    record = {"outcome": "HPTP", "conclusion": "other", "duration": Decimal("12.5")}
    assert mapped(record, KUALA_LUMPUR).conclusion == "HPTP"
    assert mapped(record, None).conclusion == "other"
    assert mapped(record, None).duration_s == Decimal("12.5")


def event(content: bytes, received_ms: int, source: str = "callback") -> DialResult:
    return dial_result("demo", "1", BluRecord(0, "1", content), received_ms, source=source)


def test_newest_is_call_time_then_receipt_then_event_id() -> None:
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    callback = event(b'{"a":1}', 1_767_225_600_000)  # received at `early`
    assert newest_key(callback, late) > newest_key(callback, early)
    assert newest_key(event(b'{"a":2}', 1_767_225_600_001), None) > newest_key(callback, None)
    ids = sorted((callback, event(b'{"a":2}', 1_767_225_600_000)), key=lambda result: result.event_id)
    assert newest_key(ids[1], None) > newest_key(ids[0], None)


def test_a_reconciled_result_without_call_time_never_overwrites() -> None:
    reconciled = event(b"{}", 1_999_999_999_000, source="reconcile")
    assert newest_key(event(b"{}", 0), None) > newest_key(reconciled, None)
    assert newest_key(reconciled, datetime(2026, 1, 2, tzinfo=UTC)) > newest_key(event(b"{}", 0), None)


def test_a_merchants_file(tmp_path: Path) -> None:
    path = tmp_path / "merchants.toml"
    path.write_text(
        '[acme]\ntimezone = "Asia/Kuala_Lumpur"\n[[acme.tokens]]\nid = "t-1"\nsha256 = "' + "0" * 64 + '"\n'
        'created = 2026-11-24\n[acme.conclusions]\nKPTP = "promise"\n[demo]\n'
    )
    merchants = load_merchants(path)
    assert merchants["acme"].tokens[0].id == "t-1"
    assert str(merchants["acme"].timezone) == "Asia/Kuala_Lumpur"
    assert merchants["acme"].conclusions == {"KPTP": "promise"}
    assert merchants["demo"].fields.conclusion[0] == "conclusion"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[acme", "not TOML"),
        ("[Acme]", "Acme"),
        ('[acme]\ntimezone = "Mars/Olympus"', "acme.timezone"),
        ("[acme]\ncolour = 1", "acme.colour"),
        ('[[acme.tokens]]\nid = "t"\nsha256 = "secret"\ncreated = 2026-11-24', "acme.tokens.0.sha256"),
        ("acme = 1", "acme"),
    ],
)
def test_a_broken_file_says_where_but_not_what(tmp_path: Path, text: str, where: str) -> None:
    path = tmp_path / "merchants.toml"
    path.write_text(text)
    with pytest.raises(MerchantsFileError, match=where) as raised:
        load_merchants(path)
    assert "secret" not in str(raised.value)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MerchantsFileError, match="token new"):
        load_merchants(tmp_path / "none.toml")


MORNING = ["2024-08-15 07:00:00", "2024-08-15 12:00:00"]


def payment(slots: object, merchant: Merchant = KUALA_LUMPUR) -> PaymentTime | None:
    text = msgspec.json.encode({"slots": slots} if slots is not None else {})
    found = FieldReader(merchant).decode(event(text, 0))
    return PaymentTimeReader(merchant).read(found.slots)


@pytest.mark.parametrize(
    "slots",
    [
        {"paymentAmount": 150, "paymentTime": MORNING},
        {"paymentTime": None, "payTime": MORNING},
        [{"name": "other"}, {"name": "payTime", "value": MORNING}],
    ],
)
def test_a_payment_time_is_the_merchants_local_one_in_utc_and_as_it_came(slots: object) -> None:
    begins, ends = datetime(2024, 8, 14, 23, tzinfo=UTC), datetime(2024, 8, 15, 4, tzinfo=UTC)
    assert payment(slots) == (begins, ends, *MORNING)


def test_a_payment_time_follows_the_clocks_of_summer_and_names_its_own_offset() -> None:
    berlin = Merchant(name="b", timezone=ZoneInfo("Europe/Berlin"))
    said = payment({"paymentTime": ["2024-01-15 07:00:00", "2024-08-15 07:00:00"]}, berlin)
    assert said
    assert [said.begins_at.hour, said.ends_at.hour] == [6, 5]
    exact = payment({"paymentTime": ["2024-08-15T07:00:00+02:00"] * 2})
    assert exact
    assert exact.begins_at == exact.ends_at == datetime(2024, 8, 15, 5, tzinfo=UTC)


@pytest.mark.parametrize("value", [None, [], ["tomorrow", "later"], MORNING[:1], [*MORNING, "x"], "x", [1, 2], {}])
def test_what_is_no_payment_time_is_none(value: object) -> None:
    assert payment({"paymentTime": value}) is None


@pytest.mark.parametrize("slots", [None, [], {}, "x", 7, [1], [["payTime", MORNING]], {"payTime": {"a": MORNING}}])
def test_slots_of_another_shape_hold_none(slots: object) -> None:
    assert payment(slots) is None
    assert PaymentTimeReader(None).read(msgspec.Raw(b"null")) is None
