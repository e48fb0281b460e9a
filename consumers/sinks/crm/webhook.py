"""Any CRM that takes one HTTP call an event: body, path and headers are templates of the mapping file.

`Idempotency-Key` (https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/) is the event's id, the
same in every repeat; a server that knows it answers 409 while the first call is under way, and 422 where the same key
comes with another body. Where a result is sent again on purpose, to undo a stale one that came in behind it
(docs/crm.md, *Frozen processes*), the key says so, or the server would take it for a repeat.
"""

from __future__ import annotations

import hashlib
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from .answers import Answer, Unclear, json_of, text, whole
from .line import Request
from .outcome import Ok, Outcome, Reject
from .signature import secret_bytes, signed
from .template import quoted, rendered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .mapping import Item
    from .settings import Settings


class Webhook:
    """A dialect (`adapter.py`)."""

    max_items = 1

    def __init__(self, settings: Settings) -> None:
        self._call = settings.field_map.webhook
        self._token = settings.token.get_secret_value()
        self._pause_s = settings.pause_s
        secret = settings.webhook_secret
        self._secret = secret_bytes(secret.get_secret_value()) if secret else None

    def request(self, items: Sequence[Item]) -> Request:
        """Make the call of one event."""
        (one,) = items
        values = one.properties | {"contact": one.contact}
        key = f"{one.event_id}.{one.repairs}" if one.repairs else one.event_id
        shape = values if self._call.body is None else rendered(self._call.body, values)
        body = orjson.dumps(shape)
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Idempotency-Key": key}
        headers |= rendered(self._call.headers, {"token": self._token, "event_id": one.event_id})
        if self._secret:
            headers |= signed(self._secret, key, int(time.time()), body)
        return Request(self._call.method, quoted(self._call.path, values), headers, body)

    def read(self, answer: Answer, items: Sequence[Item]) -> list[Outcome | Unclear]:
        """Return the verdict of the one item."""
        return [self._verdict(answer)] * len(items)

    def find(self, contact: str) -> None:
        """Ask nothing: the mapping file's call goes by our own name of the contact."""

    def found(self, answer: Answer) -> None:
        """Read nothing."""

    def erasure(self, contact: str, remote_id: str | None) -> Request | None:
        """Make the mapping file's call, if there is one."""
        if (call := self._call.erase) is None:
            return None
        values = {"contact": contact, "remote_id": remote_id or ""}
        body = b"" if call.body is None else orjson.dumps(rendered(call.body, values))
        key = f"erase-{hashlib.sha256(contact.encode()).hexdigest()}"
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Idempotency-Key": key}
        headers |= rendered(self._call.headers, {"token": self._token, "event_id": ""})
        if self._secret:
            headers |= signed(self._secret, key, int(time.time()), body)
        return Request(call.method, quoted(call.path, values), headers, body)

    def erased(self, answer: Answer) -> Outcome | Unclear:
        """Read its answer: 2xx, or 404 and 410 for a contact that is not there."""
        good = answer.status in range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES)
        if good or answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            return Ok(None)
        return whole(answer, Reject(f"crm-status-{answer.status}"), self._pause_s)

    def _verdict(self, answer: Answer) -> Outcome | Unclear:
        body = json_of(answer.body)
        good = answer.status in range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES)
        if good and self._call.error_at and _at(body, self._call.error_at) is not None:
            return Reject("crm-error-in-answer")
        if good or any(
            done.status == answer.status and done.contains.encode() in answer.body for done in self._call.done
        ):
            return Ok(text(_at(body, self._call.remote_id_at)))
        return whole(answer, Reject(f"crm-status-{answer.status}"), self._pause_s)


def _at(body: Any, path: str) -> Any:  # noqa: ANN401  # JSON
    """Return what stands at a dotted path, None if nothing does."""
    for key in path.split("."):
        body = body.get(key) if isinstance(body, dict) else None
    return body
