"""A CRM that takes one call an event, knows `Idempotency-Key`, and checks Standard Webhooks signatures.

By draft-ietf-httpapi-idempotency-key-header: a missing key is 400, a key that comes again with another body 422. The
memory of keys lasts as long as the process.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import orjson

from consumers.sinks.crm.signature import secret_bytes, signed
from ops.standalone.crm_desk import Input, Refused, Verdict, json_answer

if TYPE_CHECKING:
    from aiohttp import web

    from ops.standalone.crm_faults import Fault
    from ops.standalone.crm_window import Window


class WebhookApi:
    """A vendor of the desk. With `secret` only signed calls are taken."""

    def __init__(self, secret: str | None) -> None:
        self._secret = secret_bytes(secret) if secret else None
        self._bodies: dict[str, bytes] = {}

    def error(self, status: int, category: str | None, message: str) -> web.Response:
        return json_answer({"error": category or "refused", "message": message}, status)

    def too_many(self, _window: Window, _policy: str) -> web.Response:
        return self.error(429, "rate_limited", "too many calls")

    def read(self, request: web.Request, body: bytes) -> list[Input]:
        """Read one event: `contact` and `event_id`, and whatever else as text."""
        self._check_signature(request, body)
        key = request.headers.get("Idempotency-Key", "")
        if not key:
            raise Refused(self.error(400, None, "Idempotency-Key is missing"))
        event = self._event(body)
        if self._bodies.setdefault(key, hashlib.sha256(body).digest()) != hashlib.sha256(body).digest():
            raise Refused(self.error(422, None, "Idempotency-Key is already used"))
        values = {name: value or "" for name, value in event.items()}
        return [Input(values["contact"], values["event_id"], values)]

    def _check_signature(self, request: web.Request, body: bytes) -> None:
        if self._secret is None:
            return
        message_id, timestamp = request.headers.get("webhook-id", ""), request.headers.get("webhook-timestamp", "0")
        expected = signed(self._secret, message_id, int(timestamp), body)["webhook-signature"]
        if request.headers.get("webhook-signature") != expected:
            raise Refused(self.error(400, None, "the signature is wrong"))

    def _event(self, body: bytes) -> dict[str, str | None]:
        try:
            event = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise Refused(self.error(400, None, "not JSON")) from None
        if not isinstance(event, dict) or not event.get("contact") or not event.get("event_id"):
            raise Refused(self.error(422, None, "contact and event_id are required"))
        if not all(value is None or isinstance(value, str) for value in event.values()):
            raise Refused(self.error(422, None, "values are text"))
        return event

    def answer(self, _request: web.Request, verdicts: list[Verdict], _fault: Fault) -> web.Response:
        """Answer 201 for a new contact, 200 for a known one, 422 for a refused one; 202 where the script forgets it."""
        if not verdicts:
            return json_answer({}, 202)
        (one,) = verdicts
        if one.contact is None:
            return self.error(422, one.code, "refused")
        return json_answer({"id": one.contact.id}, 201 if one.new else 200)
