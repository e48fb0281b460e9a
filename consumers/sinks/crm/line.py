"""The line to one CRM: one call at a time through limit, pause and circuit breaker, and whatever comes back of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import aiohttp

from .answers import Answer
from .breaker import Breaker
from .grants import Grants
from .limiter import SlidingWindow
from .metrics import count_call
from .outcome import Retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from .settings import Settings

_CONNECT_S = 5.0


class Request(NamedTuple):
    """One call. `path` is relative to the CRM's address and already quoted."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Line:
    """Raises nothing but cancellation and bugs."""

    def __init__(self, session: aiohttp.ClientSession, settings: Settings) -> None:
        self._session = session
        self._url = settings.url
        limit = settings.limit
        self._window = SlidingWindow(limit.calls, limit.window_s)
        self._at_once = asyncio.Semaphore(settings.concurrency)
        self._breaker = Breaker(settings.breaker_failures, settings.breaker_s)
        self._grants = Grants(settings) if settings.client_id else None
        self._quiet_until = 0.0

    def leave_alone(self, seconds: float) -> None:
        """Make no call for so long, also none of those that wait for their turn."""
        self._quiet_until = max(self._quiet_until, time.monotonic() + seconds)

    async def call(self, request: Callable[[], Request], give_up_at: float) -> Answer | Retry:
        """Make one call when its turn comes; whatever hides its outcome is a Retry.

        Args:
            request: makes the request, just before it is sent.
            give_up_at: no call starts later (`time.monotonic`).
        """
        if wait := self._must_wait(give_up_at):
            return wait  # and take nobody's place for it
        async with self._at_once, self._window.place():
            if wait := self._must_wait(give_up_at):
                return wait
            with self._breaker.call() as answered:
                outcome = await self._send(request())
                status = outcome.status if isinstance(outcome, Answer) else 0
                count_call(status)
                answered(HTTPStatus.OK <= status < HTTPStatus.INTERNAL_SERVER_ERROR)
                return outcome

    def _must_wait(self, give_up_at: float) -> Retry | None:
        now = time.monotonic()
        if now < self._quiet_until:
            return Retry("crm-paused", self._quiet_until - now)
        if rest_s := self._breaker.wait_s():
            return Retry("crm-breaker-open", rest_s)
        # The contacts may be somebody else's by now.
        return Retry("crm-not-sent", 0.0) if now > give_up_at else None

    async def _send(self, request: Request) -> Answer | Retry:
        if self._grants is None:
            return await self._exchange(request)
        token = await self._grants.token(self._session)
        if isinstance(token, Retry):
            return token
        granted = request._replace(headers={**request.headers, "Authorization": f"Bearer {token}"})
        answer = await self._exchange(granted)
        if isinstance(answer, Answer) and answer.status == HTTPStatus.UNAUTHORIZED and self._grants.ended(token):
            return Retry("crm-token-ended", 0.0)
        return answer

    async def _exchange(self, request: Request) -> Answer | Retry:
        # As a stream: of bytes over 1 MB aiohttp warns that writing them in one piece holds up the event loop.
        method, path, headers, body = request
        try:
            async with self._session.request(
                method, self._url + path, data=BytesIO(body), headers=headers, allow_redirects=False
            ) as response:
                return Answer(response.status, response.headers, await response.read())
        except TimeoutError:
            return Retry("crm-timeout")
        except (aiohttp.ClientError, OSError) as error:
            return Retry(f"crm-{type(error).__name__}")


@asynccontextmanager
async def open_line(settings: Settings) -> AsyncIterator[Line]:
    """Make the line. No connection is opened before the first call."""
    timeout = aiohttp.ClientTimeout(total=settings.call_timeout_s, sock_connect=_CONNECT_S)
    connector = aiohttp.TCPConnector(limit=settings.concurrency)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield Line(session, settings)
