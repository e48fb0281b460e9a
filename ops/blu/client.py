"""Asks Blu what became of a task: `queryCallResult`, all pages, politely.

Sources: Blu's pages "Authentication" (headers `appId`, `timeStamp`, `sign`) and "Dial result query" (`taskId`,
`pageNo`, `pageSize`, 10 a page by default; `count` is the number of records on that page, so that only an empty page is
the end; `code` 2000 is success; it reaches back 45 days).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp

from schemas import exact
from schemas.backoff import Backoff
from schemas.repair import TooDeepError, mend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from schemas.merchants import Query

PATH = "/rest/v1/queryCallResult"
SUCCESS = 2000
PAGE_SIZE = 10
"""Blu's own default, the only size that it documents."""
REACH_DAYS = 45

_CALL_S = 30.0
_TRIES = 6  # about 15 s of waiting between them
_BACKOFF = Backoff(first_s=1.0, most_s=8.0)
_LONGEST_ASKED_S = 60.0  # of a Retry-After
_ANSWER_BYTES = 16_000_000
_PAGES = 100_000  # a million results at the smallest size
_AGAIN = frozenset((HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS))

Record = dict[str, Any]


class BluAway(Exception):  # noqa: N818  # a state of affairs
    """Blu does not answer; the message says how that shows, and has nothing of an answer in it."""


class BluRefused(Exception):  # noqa: N818  # likewise
    """Blu answers, but not with results: `code` is its own, or an HTTP status; None: an answer that nobody can read."""

    def __init__(self, code: int | None) -> None:
        super().__init__("an answer that cannot be read" if code is None else f"code {code}")
        self.code = code


class _Again(Exception):  # noqa: N818
    """Worth another try; after `asked_s` if the server said so."""

    def __init__(self, why: str, asked_s: float | None = None) -> None:
        super().__init__(why)
        self.asked_s = asked_s


class Pace:
    """Lets so many calls a second begin, evenly, whoever makes them."""

    def __init__(self, per_second: float) -> None:
        self._gap_s = 1 / per_second
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for the next call's turn."""
        now = time.monotonic()
        due = max(now, self._next)
        self._next = due + self._gap_s
        await asyncio.sleep(due - now)


class BluClient:
    """One merchant's access to Blu's query. Not to be used by two tasks at once."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        query: Query,
        key: str,
        pace: Pace,
        *,
        page_size: int = PAGE_SIZE,
        backoff: Backoff = _BACKOFF,
    ) -> None:
        self._session, self._pace, self._backoff = session, pace, backoff
        self._url = query.url.rstrip("/") + PATH
        self._app_id, self._key = query.app_id, key
        self._page_size = page_size

    async def pages(self, task_id: str) -> AsyncIterator[list[Any]]:
        """Yield the records of a task, page by page, until an empty one. Numbers that are not whole stay as written.

        Raises:
            BluAway: no good answer after all tries.
            BluRefused: Blu does not want to; or it gives the same page again and again.
        """
        before: bytes | None = None
        for number in range(1, _PAGES + 1):
            records = await self._page(task_id, number)
            if not records:
                return
            said = hashlib.sha256(exact.canonical(records)).digest()
            if said == before:  # `pageNo` was not heard
                raise BluRefused(None)
            before = said
            yield records
        raise BluRefused(None)

    async def _page(self, task_id: str, number: int) -> list[Any]:
        failures = 0
        while True:
            await self._pace.turn()
            try:
                return await self._ask(task_id, number)
            except _Again as error:
                failures += 1
                if failures == _TRIES:
                    raise BluAway(f"{error}") from None
                await asyncio.sleep(self._backoff.wait_s(failures, error.asked_s))

    async def _ask(self, task_id: str, number: int) -> list[Any]:
        body = {"taskId": task_id, "pageNo": number, "pageSize": self._page_size}
        try:
            async with (
                asyncio.timeout(_CALL_S),
                self._session.post(self._url, json=body, headers=self._headers(), allow_redirects=False) as answer,
            ):
                if answer.status != HTTPStatus.OK:
                    raise _failure(answer)
                return _records(await _whole(answer))
        except TimeoutError:
            raise _Again("timed out") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _Again(type(error).__name__) from None

    def _headers(self) -> dict[str, str]:
        """Sign this very call."""
        now_ms = str(time.time_ns() // 1_000_000)
        sign = hashlib.sha256(f"{self._app_id}{self._key}{now_ms}".encode()).hexdigest()
        return {"appId": self._app_id, "timeStamp": now_ms, "sign": sign}


def _failure(answer: aiohttp.ClientResponse) -> Exception:
    if answer.status in _AGAIN or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        asked = answer.headers.get("Retry-After", "")
        asked_s = min(float(asked), _LONGEST_ASKED_S) if asked.isdecimal() else None
        return _Again(f"HTTP {answer.status}", asked_s)
    return BluRefused(answer.status)


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    """Read the body, up to a bound."""
    pieces, size = [], 0
    async for piece in answer.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > _ANSWER_BYTES:
            raise BluRefused(None)
    return b"".join(pieces)


def _records(body: bytes) -> list[Any]:
    """Take the records out of an answer: `records` beside `code`, or in `data`; or `data` itself."""
    answer = _decoded(body)
    code = answer.get("code")
    if str(code) != str(SUCCESS):
        raise BluRefused(code if type(code) is int else None)
    data = answer.get("data", answer)
    records = data.get("records", []) if isinstance(data, dict) else data
    if records is None:
        return []
    if not isinstance(records, list):
        raise BluRefused(None)
    return records


def _decoded(body: bytes) -> Record:
    """Decode an answer, with the defects of Blu's own pages if it has them, without losing anything."""
    try:
        text = _strict(body)
        answer = exact.decode(text)
    except (TooDeepError, RecursionError, *exact.FAILURES):
        raise BluRefused(None) from None
    if not isinstance(answer, dict) or (exact.may_lose(text, exact.canonical(answer)) and exact.loses(text)):
        raise BluRefused(None)
    return answer


def _strict(body: bytes) -> bytes:
    try:
        exact.decode(body)
    except RecursionError:  # one of `FAILURES` elsewhere
        raise
    except exact.FAILURES:
        return mend(body) or b""
    return body
