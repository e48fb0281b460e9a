"""The admin port: is the process alive, may it take traffic, what does it count. Not public."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from receiver.answers import ANSWERS, Answer
from receiver.errors import NotFound

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest

    from receiver.journal import Journal
    from receiver.metrics import Metrics
    from receiver.server import Server

_SECURITY = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
)


class Health:
    """Answers the admin port. Kafka's state is in the metrics: it is no reason to take traffic away from us."""

    def __init__(self, journal: Journal, metrics: Metrics, callbacks: Server) -> None:
        self._journal = journal
        self._metrics = metrics
        self._callbacks = callbacks

    async def answer(self, request: BaseRequest) -> Answer:
        """Answer GET and HEAD of the three paths; everything else is not found."""
        known = {"/healthz": self._alive, "/readyz": self._ready, "/metrics": self._numbers}
        path = request.raw_path.partition("?")[0]
        if request.method not in ("GET", "HEAD") or path not in known:
            return ANSWERS[NotFound]
        return known[path]()

    def _alive(self) -> Answer:
        return _json(200, {"status": "alive"})

    def _ready(self) -> Answer:
        reasons = [
            reason
            for reason, holds in (
                ("journal-failed", self._journal.failed.is_set()),
                ("journal-full", self._journal.full),
                ("stopping", self._callbacks.draining),
            )
            if holds
        ]
        return _json(503 if reasons else 200, {"status": "not ready" if reasons else "ready", "reasons": reasons})

    def _numbers(self) -> Answer:
        return Answer(200, "", self._metrics.text(), _SECURITY, CONTENT_TYPE_LATEST)


def _json(status: int, value: dict[str, object]) -> Answer:
    return Answer(status, "", orjson.dumps(value), _SECURITY)
