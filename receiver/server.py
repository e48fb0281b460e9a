"""aiohttp's server as we want it: strict, bounded, quiet, and stopped without breaking off an answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiohttp import HttpVersion10, HttpVersion11, http_parser, web

from receiver.answers import BAD_REQUEST, Answer
from receiver.connection import AnswerResponse, Connection
from receiver.listening import take_the_last
from receiver.strangers import Connections, Silent

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable, Sequence

    from receiver.fast_callbacks import Callbacks as FastLaneCallbacks

_LINE_BYTES = 8_190  # of the request line, and of each header: aiohttp's own bounds, fixed here
_HEADERS = 100
_LINGER_S = 2.0  # how long what is left of a refused body is read and dropped, so that the sender can read the answer
_LINGER_BYTES = 8_000_000  # and only of one that says it is no longer: reading 10 GB for two seconds takes a whole core
_BACKLOG = 1_024  # connections that the kernel accepts for us: Blu may open hundreds at once after an outage
_TLS_S = 5.0  # for a handshake, and for the other side's goodbye: asyncio's own bounds are 60 s and 30 s
_DRAIN_S = 1.0  # on stop: for connections to be told to close with their next answer
_SHUTDOWN_S = 2.0  # then for callbacks under way; the journal answers within its commit budget of 2 s


class NoFastParserError(RuntimeError):
    """aiohttp's C parser is missing. The one in Python has had request smuggling holes, and is slow."""


class CannotListenError(Exception):
    """The address is taken, or not ours; the message says which one."""


class _Site(web.BaseSite):
    """aiohttp's `TCPSite`, with TLS bounded in time: until its handshake is over a connection is not ours to close."""

    def __init__(
        self,
        runner: web.ServerRunner,
        server: Server,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        *,
        shared: bool,
    ) -> None:
        super().__init__(runner, ssl_context=tls, backlog=_BACKLOG)
        self._connect = server
        self._host, self._shared = host, shared
        self.port = port
        self.sockets: Sequence[socket.socket] = ()

    @property
    def name(self) -> str:
        return f"{self._host}:{self.port}"

    async def start(self) -> None:
        """Raises OSError."""
        await super().start()
        tls_s = _TLS_S if self._ssl_context is not None else None
        listening = await asyncio.get_running_loop().create_server(
            self._connect,
            self._host,
            self.port,
            ssl=self._ssl_context,
            backlog=self._backlog,
            reuse_port=self._shared,
            ssl_handshake_timeout=tls_s,
            ssl_shutdown_timeout=tls_s,
        )
        self._server = listening
        self.sockets = listening.sockets
        self.port = self.sockets[0].getsockname()[1]


class Server(web.Server):
    """A listening server, from `listen` to `stop`."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[Answer]],
        *,
        on_error: Callable[[Answer], None],
        keepalive_s: float,
        strangers_cap: int,
        fast: FastLaneCallbacks | None = None,
    ) -> None:
        """Raises NoFastParserError."""
        if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
            raise NoFastParserError(NoFastParserError.__doc__)
        self._answer = handler
        self._on_error = on_error
        self._fast = fast
        self.open = Connections(strangers_cap, keepalive_s)
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
        self._site: _Site | None = None

    def __call__(self) -> Silent:  # type: ignore[override]  # a RequestHandler is made when there is something to handle
        """Make a connection's protocol."""
        return Silent(self.open, self._speak)

    def _speak(self) -> Connection:
        return Connection(self, self._on_error, self._fast, loop=asyncio.get_running_loop(), **self._options)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.version not in (HttpVersion10, HttpVersion11):  # the parser lets HTTP/0.9 and 2.0 through
            self._on_error(BAD_REQUEST)
            return AnswerResponse(BAD_REQUEST, close=True)
        answer = await self._answer(request)
        close = self.draining or not request.keep_alive or request.version != HttpVersion11
        return AnswerResponse(answer, close=close, cut=not _worth_reading(request))

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None, *, shared: bool = False) -> int:
        """Take connections; return the port, which may be `shared` with other processes. Raises CannotListenError."""
        await self._runner.setup()
        self._site = _Site(self._runner, self, host, port, tls, shared=shared)
        try:
            await self._site.start()
        except OSError as error:
            raise CannotListenError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        return self._site.port

    async def stop(self) -> None:
        """Stop without a reset on an accepted request, within 5 seconds.

        1. Every answer from now on asks for the connection to be closed.
        2. No new connections; those that the kernel has accepted for us are taken first.
        3. Connections get a moment to be closed by their own next answer: closing one that only seems idle would meet
           a request that is already on its way.
        4. Those left over are closed: the idle ones at once, the others when their answer is out, or time is up.
        """
        self.draining = True
        if self._site is not None:
            await take_the_last(self._site.sockets)
            await self._site.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await self.open.empty.wait()
        self.open.end()
        await self._runner.cleanup()


def _worth_reading(request: web.BaseRequest) -> bool:
    """Tell whether what is left of a body is read, so that its sender, who is still sending, sees his answer."""
    return request.content.is_eof() or (request.content_length or _LINGER_BYTES + 1) <= _LINGER_BYTES
