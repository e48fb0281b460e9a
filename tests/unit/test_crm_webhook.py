from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from consumers.sinks.crm.answers import Answer, Unclear
from consumers.sinks.crm.mapping import item
from consumers.sinks.crm.outcome import Ok, Outcome, Reject, Retry
from consumers.sinks.crm.signature import secret_bytes, signed
from consumers.sinks.crm.webhook import Webhook
from tests.crm import TOKEN, event, sandbox, settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def webhook(tmp_path: Path, text: str = "", **more: Any) -> Webhook:
    path = tmp_path / "crm.toml"
    path.write_text(text)
    return Webhook(settings("https://crm", vendor="webhook", mapping_file=path, pause_s=7.0, **more))


def read(dialect: Webhook, status: int, body: bytes = b"{}", **headers: str) -> Outcome | Unclear:
    names = settings("https://crm", vendor="webhook").field_map
    answer = Answer(status, {name.replace("_", "-"): text for name, text in headers.items()}, body)
    (verdict,) = dialect.read(answer, [item(event("1"), None, names)])
    return verdict


def test_the_signature_is_that_of_the_published_example() -> None:
    headers = signed(secret_bytes(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("secret", ["whsec_", "whsec_YWJj", "no base64!", "whsec_" + "A" * 100])
def test_a_secret_that_is_none_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        settings("https://crm", vendor="webhook", webhook_secret=secret)
    assert secret not in str(wrong.value.errors(include_input=False)) or secret == "whsec_"


def test_body_path_and_headers_are_templates(tmp_path: Path) -> None:
    dialect = webhook(
        tmp_path,
        """
        [fields]
        event_id = "id"
        name = "who"
        conclusion = "what"
        "record.extVars.grade" = "grade"
        [webhook]
        method = "PUT"
        path = "/contacts/{contact}"
        headers = {X-Key = "k-{token}", X-Event = "{event_id}"}
        [webhook.body]
        title = "Call: {what}, grade {grade}"
        lead = {name = "{who}", tags = ["dial", "{what}"], score = 7}
        """,
    )
    names = dialect._call
    one = event("a/b", name='B"o"b', extVars={"grade": "A"})
    field_map = settings("https://crm", vendor="webhook", mapping_file=tmp_path / "crm.toml").field_map
    request = dialect.request([item(one, None, field_map)])
    assert (names.method, request.method, request.path) == ("PUT", "PUT", "/contacts/demo%3Aa%2Fb")
    assert request.headers["X-Key"] == f"k-{TOKEN}"
    assert request.headers["X-Event"] == request.headers["Idempotency-Key"] == one.event_id
    assert json.loads(request.body) == {
        "title": "Call: , grade A",
        "lead": {"name": 'B"o"b', "tags": ["dial", None], "score": 7},
    }


def test_a_repair_has_a_key_of_its_own_and_a_repeat_has_not(tmp_path: Path) -> None:
    dialect = webhook(tmp_path)
    one = item(event("1"), None, settings("https://crm", vendor="webhook").field_map)
    keys = [dialect.request([each]).headers["Idempotency-Key"] for each in (one, one, one._replace(repairs="late"))]
    assert keys == [one.event_id, one.event_id, f"{one.event_id}.late"]


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Ok(None)),
        (201, Ok(None)),
        (204, Ok(None)),
        (400, Unclear(Reject("crm-status-400"))),
        (422, Unclear(Reject("crm-status-422"))),
        (401, Retry("crm-unauthorised", 7.0)),
        (404, Retry("crm-status-404", 7.0)),
        (409, Unclear(Retry("crm-status-409", named=True))),
        (500, Retry("crm-status-500")),
    ],
)
def test_what_a_status_means(tmp_path: Path, status: int, verdict: Any) -> None:
    assert read(webhook(tmp_path), status) == verdict


def test_an_answer_may_hold_an_id_an_error_or_say_that_the_event_is_there_already(tmp_path: Path) -> None:
    dialect = webhook(
        tmp_path,
        """
        [webhook]
        remote_id_at = "data.id"
        error_at = "error"
        done = [{status = 400, contains = "must be unique"}]
        """,
    )
    assert read(dialect, 200, b'{"data": {"id": 7}}') == Ok("7")
    assert read(dialect, 200, b'{"error": {"code": 1}}') == Reject("crm-error-in-answer")
    assert read(dialect, 400, b'["The code must be unique."]') == Ok(None)
    assert read(dialect, 400, b'["bad"]') == Unclear(Reject("crm-status-400"))


async def test_the_sandbox_knows_keys_and_signatures(tmp_path: Path) -> None:
    async with sandbox(tmp_path / "s", webhook_secret=SECRET) as crm:
        body = {"contact": "demo:1", "event_id": "e-1"}

        async def post(key: str, given: dict[str, str], secret: str = SECRET) -> int:
            headers = signed(secret_bytes(secret), key, 1, json.dumps(given).encode())
            named = {name.replace("-", "_"): text for name, text in headers.items()}
            status, _, _ = await crm.call(
                "POST", "/webhook", given, **({"Idempotency_Key": key} if key else {}), **named
            )
            return status

        assert [await post("e-1", body), await post("e-1", body)] == [201, 200]
        assert await post("e-1", body | {"name": "other"}) == 422
        assert await post("", body) == 400
        assert await post("e-2", {"contact": "demo:1"}) == 422
        assert await post("e-3", body, "whsec_" + "A" * 32) == 400
        assert await crm.effects() == ["e-1"]
