"""The admin port: is the process alive, may it take traffic, what does it count. Not public."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import orjson
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from receiver.answers import ANSWERS, Answer
from receiver.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.web import BaseRequest

_SECURITY = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
)


class Health:
    """Answers the admin port. Kafka's state is in the metrics: it is no reason to take traffic away from us."""

    def __init__(self, not_ready: Callable[[], Awaitable[list[str]]], metrics: Callable[[], Awaitable[bytes]]) -> None:
        """`not_ready` says why no traffic may come, nothing if it may; `metrics` is what `/metrics` answers."""
        self._not_ready = not_ready
        self._metrics = metrics

    async def answer(self, request: BaseRequest) -> Answer:
        """Answer GET and HEAD of the three paths; everything else is not found."""
        known = {"/healthz": self._alive, "/readyz": self._ready, "/metrics": self._numbers}
        path = request.raw_path.partition("?")[0]
        if request.method not in ("GET", "HEAD") or path not in known:
            return replace(ANSWERS[NotFound], headers=_SECURITY)
        return await known[path]()

    async def _alive(self) -> Answer:
        return _json(200, {"status": "alive"})

    async def _ready(self) -> Answer:
        reasons = await self._not_ready()
        return _json(503 if reasons else 200, {"status": "not ready" if reasons else "ready", "reasons": reasons})

    async def _numbers(self) -> Answer:
        return Answer(200, "", await self._metrics(), _SECURITY, CONTENT_TYPE_LATEST)


def _json(status: int, value: dict[str, object]) -> Answer:
    return Answer(status, "", orjson.dumps(value), _SECURITY)
