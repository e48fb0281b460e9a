"""The sandbox CRM's pages: HubSpot's batch upsert, and what tests and people look at."""

from __future__ import annotations

import asyncio
import hmac
import math
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import orjson
from aiohttp import web
from pydantic import ValidationError

from ops.standalone.crm_batch import Input, RefusedBatch, read_batch
from ops.standalone.crm_faults import Fault, Script

if TYPE_CHECKING:
    from ops.standalone.crm_store import Contact, Store
    from ops.standalone.crm_window import Window

_BODY_CAP_BYTES = 4_000_000
_CALLS_KEPT = 10_000


class Call(NamedTuple):
    """One call of the API, as it was answered: `at` by the clock of `time.monotonic`; status 0 is a lost reply."""

    at: float
    status: int
    inputs: int


class Pages:
    """The handlers."""

    def __init__(self, store: Store, token: str, window: Window) -> None:
        self._store = store
        self._authorization = f"Bearer {token}".encode()
        self._window = window
        self._script = Script()
        self._calls: deque[Call] = deque(maxlen=_CALLS_KEPT)

    async def upsert(self, request: web.Request) -> web.StreamResponse:
        """HubSpot's batch upsert: token, limit, script, batch, answer."""
        at, body = time.monotonic(), await request.read()
        count, response = await self._answer(request, body)
        self._calls.append(Call(at, 0 if response is None else response.status, count))
        if response is None and request.transport is not None:
            request.transport.abort()
        return response or _error(500, "nobody reads this", "INTERNAL_ERROR")

    async def _answer(self, request: web.Request, body: bytes) -> tuple[int, web.Response | None]:
        """Return how many inputs there were, and the answer; None for one that gets lost."""
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), self._authorization):
            return 0, _error(401, "Authentication credentials not found or not valid", "INVALID_AUTHENTICATION")
        if wait_s := self._window.take():
            return 0, self._too_many(math.ceil(wait_s))
        fault = self._script.next()
        await asyncio.sleep(fault.delay_s)
        try:
            inputs = read_batch(body)
        except RefusedBatch as error:
            return 0, _error(400, f"{error}", "VALIDATION_ERROR")
        return len(inputs), await self._apply(request, inputs, fault)

    async def _apply(self, request: web.Request, inputs: list[Input], fault: Fault) -> web.Response | None:
        refused = [one for one in inputs if one.contact in fault.reject]
        if fault.whole and refused:
            return _error(400, "Property values were not valid", fault.category)
        if fault.status is not None and not fault.apply:
            return self._scripted(fault, fault.status)
        good = [one for one in inputs if one not in refused]
        contacts = self._store.upsert((one.contact, one.event_id, one.properties) for one in good)
        await asyncio.sleep(fault.reply_delay_s)
        if fault.lose:
            return None
        if fault.status is not None:
            return self._scripted(fault, fault.status)
        results = [
            _result(one, contact, new=new)
            for one, (contact, new) in zip(good, contacts, strict=True)
            if one.contact not in fault.forget
        ]
        return _batch_answer(request.match_info["version"], results, refused, fault)

    def _too_many(self, retry_after_s: int, policy: str = "TEN_SECONDLY_ROLLING") -> web.Response:
        body = {
            "status": "error",
            "message": f"You have reached your {policy.lower()} limit.",
            "errorType": "RATE_LIMIT",
            "correlationId": str(uuid.uuid4()),
            "policyName": policy,
        }
        headers = {
            "Retry-After": str(retry_after_s),
            "X-HubSpot-RateLimit-Max": str(self._window.limit),
            "X-HubSpot-RateLimit-Remaining": str(self._window.remaining),
            "X-HubSpot-RateLimit-Interval-Milliseconds": f"{self._window.window_s * 1000:.0f}",
        }
        return _json(body, 429, headers)

    def _scripted(self, fault: Fault, status: int) -> web.Response:
        if status == web.HTTPTooManyRequests.status_code:
            response = self._too_many(fault.retry_after_s or 0, fault.policy)
        else:
            response = _error(status, "as the script says", fault.category)
        if fault.retry_after_s is None:
            response.headers.popall("Retry-After", None)
        else:
            response.headers["Retry-After"] = str(fault.retry_after_s)
        return response

    async def contact(self, request: web.Request) -> web.Response:
        """One contact by `{merchant}:{recordId}`."""
        found = self._store.contacts.get(request.match_info["contact"])
        if found is None:
            return _error(404, "resource not found", "OBJECT_NOT_FOUND")
        return _json(_shown(found))

    async def effects(self, _request: web.Request) -> web.Response:
        """Every change of any contact, oldest first."""
        return _json([effect._asdict() for effect in self._store.effects])

    async def calls(self, _request: web.Request) -> web.Response:
        """The latest calls of the API, oldest first."""
        return _json([call._asdict() for call in self._calls])

    async def faults(self, request: web.Request) -> web.Response:
        """Add faults to the script: one object or a list of them."""
        try:
            body = orjson.loads(await request.read())
            faults = [Fault.model_validate(one) for one in (body if isinstance(body, list) else [body])]
        except (orjson.JSONDecodeError, ValidationError) as error:
            return _error(400, f"{error}", "VALIDATION_ERROR")
        for fault in faults:
            self._script.add(fault)
        return await self.scripted(request)

    async def clear(self, request: web.Request) -> web.Response:
        """Forget the script."""
        self._script.clear()
        return await self.scripted(request)

    async def scripted(self, _request: web.Request) -> web.Response:
        """What is still to come."""
        return _json([fault.model_dump() for fault in self._script.waiting()])

    async def healthz(self, _request: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def close(self, _app: web.Application) -> None:
        self._store.close()


def make_app(store: Store, token: str, window: Window) -> web.Application:
    """Return the application; it closes the store when it ends."""
    pages = Pages(store, token, window)
    app = web.Application(client_max_size=_BODY_CAP_BYTES)
    app.on_cleanup.append(pages.close)
    app.add_routes(
        [
            web.post(r"/crm/objects/{version:\d{4}-\d{2}}/contacts/batch/upsert", pages.upsert),
            web.post(r"/crm/{version:v\d}/objects/contacts/batch/upsert", pages.upsert),
            web.get("/contacts/{contact:.+}", pages.contact),
            web.get("/effects", pages.effects),
            web.get("/calls", pages.calls),
            web.get("/faults", pages.scripted),
            web.post("/faults", pages.faults),
            web.delete("/faults", pages.clear),
            web.get("/healthz", pages.healthz),
        ]
    )
    return app


def _shown(contact: Contact) -> dict[str, object]:
    return {
        "id": contact.id,
        "properties": contact.properties,
        "createdAt": contact.created_at,
        "updatedAt": contact.updated_at,
        "archived": False,
    }


def _result(one: Input, contact: Contact, *, new: bool) -> dict[str, object]:
    trace = {"objectWriteTraceId": one.trace_id} if one.trace_id else {}
    return {**_shown(contact), "new": new, **trace}


def _batch_answer(version: str, results: list[dict[str, object]], refused: list[Input], fault: Fault) -> web.Response:
    body: dict[str, object] = {"status": "COMPLETE", "results": results}
    if not refused:
        return _json(body)
    errors = [
        {
            "status": "error",
            "category": fault.category,
            "message": "Property values were not valid",
            "context": {} if fault.anonymous else {"objectWriteTraceId": [one.trace_id], "ids": [one.contact]},
        }
        for one in refused
    ]
    status = fault.errors_status or (207 if version.startswith("v") else 200)
    return _json(body | {"numErrors": len(errors), "errors": errors}, status)


def _error(status: int, message: str, category: str) -> web.Response:
    body = {"status": "error", "message": message, "category": category, "correlationId": str(uuid.uuid4())}
    return _json(body, status)


def _json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type="application/json")
