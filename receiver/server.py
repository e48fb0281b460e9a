"""aiohttp's server as we want it: strict, bounded, quiet, and stopped without breaking off an answer."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import HttpVersion11, hdrs, http_parser, web
from aiohttp.web_protocol import RequestHandler

from receiver.answers import BAD_REQUEST, BUG, Answer, render
from receiver.fast_lane import FastLane
from schemas.quiet import where

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from receiver.fast_lane import Callbacks as FastLaneCallbacks

log = structlog.get_logger()

_LINE_BYTES = 8_190  # of the request line, and of each header: aiohttp's own bounds, fixed here
_HEADERS = 100
_LINGER_S = 2.0  # how long what is left of a refused body is read and dropped, so that the sender can read the answer
_BACKLOG = 1_024  # connections that the kernel accepts for us: Blu may open hundreds at once after an outage
_DRAIN_S = 1.0  # on stop: for connections to be told to close with their next answer
_SHUTDOWN_S = 2.0  # then for callbacks under way; the journal answers within its commit budget of 2 s


class NoFastParserError(RuntimeError):
    """aiohttp's C parser is missing. The one in Python has had request smuggling holes, and is slow."""


class CannotListenError(Exception):
    """The address is taken, or not ours; the message says which one."""


class AnswerResponse(web.StreamResponse):
    """An answer of ours on its way through aiohttp: prebuilt bytes, no `Server` header, nothing of the request."""

    def __init__(self, answer: Answer, *, close: bool) -> None:
        super().__init__(status=answer.status)
        self._answer = answer
        self._closes = close or answer.closes
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
            if self._answer.cuts:
                request.protocol.force_close()

    async def write_eof(self, data: bytes = b"") -> None:
        """There is nothing left to write."""


class Connection(RequestHandler):
    """One connection. What aiohttp would answer by itself, with the request line in it, we answer."""

    __slots__ = ("_lane", "_on_error")

    def __init__(
        self,
        manager: Server,
        on_error: Callable[[Answer], None],
        callbacks: FastLaneCallbacks | None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(manager, **options)
        self._on_error = on_error
        self._lane = FastLane(self, callbacks, lambda: manager.draining) if callbacks else None

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
        self._on_error(answer)
        if request.writer.output_size > 0:
            raise ConnectionResetError("an answer was begun already")
        return AnswerResponse(answer, close=True)


class Server(web.Server):
    """A listening server, from `listen` to `stop`."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[Answer]],
        *,
        on_error: Callable[[Answer], None],
        keepalive_s: float,
        fast: FastLaneCallbacks | None = None,
    ) -> None:
        """Raises NoFastParserError."""
        if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
            raise NoFastParserError(NoFastParserError.__doc__)
        self._answer = handler
        self._on_error = on_error
        self._fast = fast
        self._open = 0
        self._empty = asyncio.Event()
        self.draining = False
        self._options: dict[str, Any] = {
            "keepalive_timeout": keepalive_s,
            "lingering_time": _LINGER_S,
            "max_line_size": _LINE_BYTES,
            "max_field_size": _LINE_BYTES,
            "max_headers": _HEADERS,
            "auto_decompress": False,  # a gzip bomb stays the few bytes that it is
            "access_log": None,  # aiohttp's own prints the path; ours is access_log.py
        }
        super().__init__(self._handle, **self._options)
        self._runner = web.ServerRunner(self, shutdown_timeout=_SHUTDOWN_S)
        self._site: web.TCPSite | None = None

    def __call__(self) -> RequestHandler:
        """Make a connection's protocol."""
        return Connection(self, self._on_error, self._fast, loop=asyncio.get_running_loop(), **self._options)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        answer = await self._answer(request)
        close = self.draining or not request.keep_alive or request.version != HttpVersion11
        return AnswerResponse(answer, close=close)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Count it."""
        super().connection_made(handler, transport)
        self._open += 1
        self._empty.clear()

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Count it."""
        super().connection_lost(handler, exc)
        self._open -= 1
        if self._open == 0:
            self._empty.set()

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Take connections; return the port. Raises CannotListenError."""
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, host, port, ssl_context=tls, backlog=_BACKLOG)
        try:
            await self._site.start()
        except OSError as error:
            raise CannotListenError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        return self._site.port

    async def stop(self) -> None:
        """Stop without a reset on an accepted request, within 5 seconds.

        1. Every answer from now on asks for the connection to be closed.
        2. No new connections.
        3. Connections get a moment to be closed by their own next answer: closing one that only seems idle would meet
           a request that is already on its way.
        4. Those left over are closed: the idle ones at once, the others when their answer is out, or time is up.
        """
        self.draining = True
        if self._site is not None:
            await self._site.stop()
        if self._open:
            with suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_S):
                    await self._empty.wait()
        await self._runner.cleanup()
