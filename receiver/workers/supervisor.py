"""The supervisor of several workers: it holds the port, starts and stops them, and answers the admin port for all."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import structlog

from receiver.fast_callbacks import NoCallbacks
from receiver.fast_lane import missing_attributes
from receiver.health import Health
from receiver.server import CannotListenError, Server
from receiver.workers.together import Together
from receiver.workers.worker import UNUSABLE, Worker, WorkerUnusable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from receiver.settings import ReceiverSettings

log = structlog.get_logger()

DONE, TRY_AGAIN = 0, 75
_ADMIN_CONNECTIONS = 100


class Supervisor:
    """Runs `settings.workers` of them. The kernel shares the connections out: they all listen on one port."""

    def __init__(self, settings: ReceiverSettings, environment: Mapping[str, str]) -> None:
        """`environment` is the workers'."""
        self._settings = settings
        self._environment = environment
        self._workers: list[Worker] = []
        self._rolling: asyncio.Task[None] | None = None
        self._stopping = False

    def reload(self) -> None:
        """Have all read the merchants' file and the certificate again."""
        for worker in self._workers:
            worker.reload()

    def roll(self) -> None:
        """Replace one worker after the other, each only when the one before takes callbacks again."""
        if self._rolling is None or self._rolling.done():
            self._rolling = asyncio.create_task(self._roll())

    async def run(self, stop: asyncio.Event) -> int:
        """Take callbacks until `stop` is set; return the exit code."""
        try:
            with self._port() as port:
                environment = {**self._environment, "RECEIVER_PORT": str(port)}
                count = self._settings.workers
                self._workers = [Worker(index, count, environment) for index in range(count)]
                async with self._admin() as admin_port, asyncio.TaskGroup() as tasks:
                    running = [tasks.create_task(worker.run()) for worker in self._workers]
                    log.info("supervisor_started", port=port, admin_port=admin_port, workers=count)
                    await stop.wait()
                    self._stopping = True
                    for task in (*running, *([self._rolling] if self._rolling else [])):
                        task.cancel()
        except* WorkerUnusable:
            code = UNUSABLE
        except* CannotListenError as errors:
            code = TRY_AGAIN
            log.error("receiver_ends", reason=str(errors.exceptions[0]), exit_code=code)  # noqa: TRY400
        else:
            code = DONE
        return code

    @contextmanager
    def _port(self) -> Iterator[int]:
        """Keep the port for the workers without listening on it, so that nobody else takes it between two of them."""
        host, port = self._settings.host, self._settings.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as kept:
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                kept.bind((host, port))
            except OSError as error:
                raise CannotListenError(f"cannot listen on {host}:{port}: {error.strerror}") from error
            yield kept.getsockname()[1]

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[int]:
        together = Together(self._workers)
        server = Server(
            Health(self._not_ready(together), together.text).answer,
            on_error=lambda _: None,
            keepalive_s=self._settings.keepalive_s,
            strangers_cap=_ADMIN_CONNECTIONS,
            fast=None if missing_attributes() else NoCallbacks(),
        )
        try:
            yield await server.listen(self._settings.admin_host, self._settings.admin_port)
        finally:
            await server.stop()

    def _not_ready(self, together: Together) -> Callable[[], Awaitable[list[str]]]:
        async def reasons() -> list[str]:
            return ["stopping"] if self._stopping else await together.not_ready()

        return reasons

    async def _roll(self) -> None:
        for worker in self._workers:
            await worker.replace()
        log.info("workers_replaced", workers=len(self._workers))
