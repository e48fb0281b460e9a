"""The sandbox CRM's desk: what happens to every call, whoever's API it is made by.

Token, limit, script of faults, reading, applying, answering. What is said in which words, and how strict the reading
is, is the vendor's: `crm_hubspot.py`, `crm_salesforce.py`, `crm_webhook.py`.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import secrets
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

import orjson
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ops.standalone.crm_faults import Fault, Script
    from ops.standalone.crm_store import Contact, Store
    from ops.standalone.crm_window import Window

_CALLS_KEPT = 100_000


class Call(NamedTuple):
    """One call of the API, as it was answered: `at` by the clock of `time.monotonic`; status 0 is a lost reply."""

    at: float
    status: int
    inputs: int


class Input(NamedTuple):
    """One item of a call. `refusal` is the vendor's code for why it alone is refused."""

    contact: str
    event_id: str
    properties: dict[str, str]
    trace_id: str | None = None
    refusal: str | None = None


class Verdict(NamedTuple):
    """What became of one input, in the order of the call. `contact` is None where it was refused with `code`."""

    given: Input
    contact: Contact | None = None
    new: bool = False
    code: str | None = None


class Refused(Exception):  # noqa: N818  # an answer
    """The whole call is answered so."""

    def __init__(self, response: web.Response) -> None:
        super().__init__(response.status)
        self.response = response


class Vendor(Protocol):
    """The words of one vendor's API."""

    def error(self, status: int, category: str | None, message: str) -> web.Response:
        """Return an error's answer; without a category the vendor's usual one of that status."""

    def too_many(self, window: Window, policy: str) -> web.Response:
        """Return the answer over the limit, without Retry-After."""

    def read(self, request: web.Request, body: bytes) -> list[Input]:
        """Read a call as strictly as the vendor. Raises Refused."""

    def answer(self, request: web.Request, verdicts: list[Verdict], fault: Fault) -> web.Response:
        """Return what a call is answered that was not refused as a whole."""


class Desk:
    """Takes calls."""

    def __init__(self, store: Store, token: str, window: Window, script: Script) -> None:
        self._store = store
        self.token = token
        self._granted: dict[str, float] = {}
        self._window = window
        self._script = script
        self.calls: deque[Call] = deque(maxlen=_CALLS_KEPT)

    def handler(self, vendor: Vendor) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Return the page of one vendor's call."""

        async def page(request: web.Request) -> web.StreamResponse:
            at, body = time.monotonic(), await request.read()
            count, response = await self._answer(vendor, request, body)
            self.calls.append(Call(at, 0 if response is None else response.status, count))
            if response is None and request.transport is not None:
                request.transport.abort()
            return response or vendor.error(500, None, "nobody reads this")

        return page

    def grant(self, life_s: float) -> str:
        """Return a new token that is good for so long."""
        token = secrets.token_urlsafe(16)
        self._granted[f"Bearer {token}"] = time.monotonic() + life_s
        return token

    def _knows(self, authorization: str) -> bool:
        own = hmac.compare_digest(authorization.encode(), f"Bearer {self.token}".encode())
        return own or time.monotonic() < self._granted.get(authorization, 0.0)

    def refusal(self, vendor: Vendor, request: web.Request) -> web.Response | None:
        """Return the answer to a call without a good token, or over the limit; None for one that is let in."""
        if not self._knows(request.headers.get("Authorization", "")):
            return vendor.error(401, None, "Authentication credentials not found or not valid")
        if wait_s := self._window.take():
            return _after(vendor.too_many(self._window, "TEN_SECONDLY_ROLLING"), math.ceil(wait_s))
        return None

    async def _answer(self, vendor: Vendor, request: web.Request, body: bytes) -> tuple[int, web.Response | None]:
        """Return how many inputs there were, and the answer; None for one that gets lost."""
        if refusal := self.refusal(vendor, request):
            return 0, refusal
        fault = self._script.next()
        await asyncio.sleep(fault.delay_s)
        try:
            inputs = vendor.read(request, body)
        except Refused as refused:
            return 0, refused.response
        return len(inputs), await self._apply(vendor, request, inputs, fault)

    async def _apply(
        self, vendor: Vendor, request: web.Request, inputs: list[Input], fault: Fault
    ) -> web.Response | None:
        refused = {one.contact for one in inputs} & set(fault.reject)
        if fault.whole and refused:
            return vendor.error(400, fault.category, "Property values were not valid")
        if fault.status is not None and not fault.apply:
            return self._scripted(vendor, fault, fault.status)
        verdicts = self._taken(inputs, refused, fault.category)
        await asyncio.sleep(fault.reply_delay_s)
        if fault.lose:
            return None
        if fault.status is not None:
            return self._scripted(vendor, fault, fault.status)
        return vendor.answer(request, [one for one in verdicts if one.given.contact not in fault.forget], fault)

    def _taken(self, inputs: list[Input], refused: set[str], category: str) -> list[Verdict]:
        codes = [category if one.contact in refused else one.refusal for one in inputs]
        good = [one for one, code in zip(inputs, codes, strict=True) if code is None]
        stored = iter(self._store.upsert((one.contact, one.event_id, one.properties) for one in good))
        return [
            Verdict(one, *next(stored)) if code is None else Verdict(one, code=code)
            for one, code in zip(inputs, codes, strict=True)
        ]

    def _scripted(self, vendor: Vendor, fault: Fault, status: int) -> web.Response:
        if status == web.HTTPTooManyRequests.status_code:
            response = vendor.too_many(self._window, fault.policy)
        else:
            response = vendor.error(status, fault.category, "as the script says")
        return response if fault.retry_after_s is None else _after(response, fault.retry_after_s)


def _after(response: web.Response, seconds: int) -> web.Response:
    response.headers["Retry-After"] = str(seconds)
    return response


def json_answer(body: object, status: int = 200) -> web.Response:
    """Return an answer in JSON."""
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
