"""One connection that has something to say: aiohttp's, as strict, quiet and bounded as we want it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestHandler

from receiver.answers import BAD_REQUEST, BUG, Answer, render
from receiver.fast_lane import FastLane
from schemas.quiet import where

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.fast_callbacks import Callbacks as FastLaneCallbacks
    from receiver.server import Server

log = structlog.get_logger()

_TAKE_S = 5.0  # a sender that leaves 64 KB of answers lying for so long does not want them


class AnswerResponse(web.StreamResponse):
    """An answer of ours on its way through aiohttp: prebuilt bytes, no `Server` header, nothing of the request."""

    def __init__(self, answer: Answer, *, close: bool, cut: bool = False) -> None:
        super().__init__(status=answer.status)
        self._answer = answer
        self._cuts = cut or answer.cuts
        self._closes = close or self._cuts or answer.closes
        self._written = False

    @property
    def keep_alive(self) -> bool:
        return not self._closes

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write the whole answer."""
        if not self._written:
            self._written = True
            head = request.method == hdrs.METH_HEAD
            await request.writer.write(render(self._answer, time.time(), close=self._closes, head=head))
            if self._cuts:
                request.protocol.force_close()

    async def write_eof(self, data: bytes = b"") -> None:
        """There is nothing left to write."""


def prove(request: web.BaseRequest) -> None:
    """Note that the request's connection brought a callback with a good token: it is no stranger any more."""
    connection = request.protocol
    if isinstance(connection, Connection) and not connection.proven:
        connection.prove()


class Connection(RequestHandler):
    """One connection. What aiohttp would answer by itself, with the request line in it, we answer."""

    __slots__ = ("_connections", "_lane", "_on_error", "_socket", "_stuck", "proven")

    def __init__(
        self,
        manager: Server,
        on_error: Callable[[Answer], None],
        callbacks: FastLaneCallbacks | None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(manager, **options)
        self._on_error = on_error
        self._connections = manager.open
        self._socket: asyncio.Transport | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self.proven = False
        self._lane = FastLane(self, callbacks, manager) if callbacks else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        self._socket = self.transport

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._stop_waiting()
        self._socket = None
        self._connections.closed(self)
        super().connection_lost(exc)
        self._lane = None  # it holds us: freed now, and not by a collector that comes seldom

    def data_received(self, data: bytes) -> None:
        """Take what came: the fast lane what it knows, aiohttp the rest."""
        if self._lane is None or not self._lane.takes(data):
            super().data_received(data)

    def prove(self) -> None:
        """Note that it brought a callback with a good token."""
        self.proven = True
        self._connections.proven(self)

    def cut(self) -> None:
        """Close it now, whatever it was about to say or to read."""
        if self._socket is not None:
            self._socket.abort()  # aiohttp's own way waits for what was written to be read

    def turn_away(self) -> None:
        """Answer what is no HTTP, and close; for a connection on which nothing is being answered."""
        self._on_error(BAD_REQUEST)
        if self.transport is not None:
            self.transport.write(render(BAD_REQUEST, time.time()))
        self.force_close()

    def pause_writing(self) -> None:
        """Hold; whoever does not take his answers is cut off."""
        super().pause_writing()
        self._stuck = asyncio.get_running_loop().call_later(_TAKE_S, self.cut)

    def resume_writing(self) -> None:
        """Go on."""
        self._stop_waiting()
        super().resume_writing()

    def _stop_waiting(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109  # aiohttp's own signature
        """Wait for an answer that is under way on the fast lane, then close as aiohttp does."""
        if self._lane is not None:
            await self._lane.answered(timeout)
        await super().shutdown(timeout)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # it quotes the request
    ) -> web.StreamResponse:
        """Answer what is not HTTP with 400, and our own bugs with 503, so that Blu comes again."""
        answer = BAD_REQUEST if status == BAD_REQUEST.status else BUG
        if answer is BUG and exc is not None:
            log.error("request_failed", **where(exc))
        if exc is not None:
            exc.__traceback__ = None  # its frames hold all that was read, and are held by it
        self._on_error(answer)
        if request.writer.output_size > 0:
            raise ConnectionResetError("an answer was begun already")
        return AnswerResponse(answer, close=True)
