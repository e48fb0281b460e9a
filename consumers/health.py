"""The admin port: is the process alive, does it do its work, what does it count. Not public."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import orjson
import structlog
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from consumers.metrics import Metrics
    from consumers.status import Status

log = structlog.get_logger()

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Server": "",
}
_SHUTDOWN_S = 1.0


class Health:
    """Answers `/healthz`, `/readyz`, `/metrics`."""

    def __init__(self, status: Status, metrics: Metrics) -> None:
        self._status = status
        self._metrics = metrics

    def alive(self) -> web.Response:
        """Answer as long as the event loop turns."""
        return _json(200, {"status": "alive"})

    def ready(self) -> web.Response:
        """Answer 200 while the consumer is in its group and its sink takes events."""
        reasons = self._status.reasons_not_ready()
        return _json(503 if reasons else 200, {"status": "not ready" if reasons else "ready", "reasons": reasons})

    def numbers(self) -> web.Response:
        """Answer with the metrics."""
        return web.Response(body=self._metrics.text(), headers={**_HEADERS, "Content-Type": CONTENT_TYPE_LATEST})


@asynccontextmanager
async def serving(health: Health, host: str, port: int) -> AsyncIterator[int]:
    """Serve the admin port; gives the port, which port 0 leaves to the system.

    Raises:
        OSError: the address is taken.
    """
    runner = web.AppRunner(_application(health), access_log=None, keepalive_timeout=75, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = int(runner.addresses[0][1])
        log.info("admin_port_serves", host=host, port=bound)
        yield bound
    finally:
        await runner.cleanup()


def _application(health: Health) -> web.Application:
    application = web.Application()
    answers: dict[str, Callable[[], web.Response]] = {
        "/healthz": health.alive,
        "/readyz": health.ready,
        "/metrics": health.numbers,
    }

    def handler(answer: Callable[[], web.Response]) -> Callable[[web.Request], object]:
        async def handle(_request: web.Request) -> web.Response:
            return answer()

        return handle

    application.add_routes([web.get(path, handler(answer)) for path, answer in answers.items()])  # type: ignore[arg-type]
    return application


def _json(status: int, value: dict[str, object]) -> web.Response:
    headers = {**_HEADERS, "Content-Type": "application/json"}
    return web.Response(status=status, body=orjson.dumps(value), headers=headers)
