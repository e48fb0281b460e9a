"""The fast lane: a plain callback goes from aiohttp's parser straight to the journal.

aiohttp's server stays in charge of every connection: timeouts, limits, shutdown, everything unusual. At the place of
a connection's parser stands `_PlainCallbacks`. When the parser yields one complete, plain callback with a good token on
an idle connection, it is submitted and answered from the commit, without a task, a request or a response object: two
thirds of aiohttp's time. Anything else is handed on untouched and takes the ordinary lane.

This is the one file that uses aiohttp's private attributes; `missing_attributes` lists those that are gone, and then
the receiver runs on the ordinary lane alone and says so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import HttpVersion11, hdrs, web, web_protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

_PROTOCOL_ATTRIBUTES = frozenset(
    {
        "_parser",  # replaced by `_PlainCallbacks`
        "_waiter",  # set and not done: the connection is idle
        "_messages",  # what the ordinary lane has still to handle
        "_manager",  # counts requests
        "_request_count",
        "_close",  # the server is shutting down: it wants no further request
        "_force_close",
        "_next_keepalive_close_time",  # moved when a callback arrives: a pending answer is not idleness
        "_keepalive_timeout",
    }
)
_SERVER_ATTRIBUTES = frozenset({"_loop", "_kwargs"})  # what `web.Server.__call__` makes a connection of

Message = tuple["RawRequestMessage", "StreamReader"]


class Lane(Protocol):
    """What the receiver does with a plain callback; both lanes share it."""

    def match(self, message: RawRequestMessage, transport: asyncio.Transport | None) -> object | None:
        """Return whose callback this is, or None to let the ordinary lane answer."""

    def submit(self, who: object, body: bytes, answer: Callable[[bytes], None]) -> None:
        """Store the body; call `answer` with the whole HTTP response, now or when it is on disk."""


def missing_attributes() -> list[str]:
    """Name the private attributes of aiohttp that this file uses and that this version has not."""
    inherited = {name for kind in web_protocol.RequestHandler.__mro__ for name in getattr(kind, "__slots__", ())}
    server = web.Server(_no_handler)
    return sorted(
        (_PROTOCOL_ATTRIBUTES - inherited) | {name for name in _SERVER_ATTRIBUTES if not hasattr(server, name)}
    )


async def _no_handler(_request: web.BaseRequest) -> web.StreamResponse:
    raise web.HTTPNotFound


class FastLaneServer(web.Server):
    """aiohttp's server, whose connections have a fast lane."""

    def __init__(self, handler: Any, *, lane: Lane, **kwargs: Any) -> None:  # noqa: ANN401  # as aiohttp has it
        super().__init__(handler, **kwargs)
        self._lane = lane

    def __call__(self) -> web_protocol.RequestHandler:
        """Make a connection's protocol."""
        return _Connection(self, self._lane, loop=self._loop, **self._kwargs)


class _Connection(web_protocol.RequestHandler):
    __slots__ = ("_fast",)

    def __init__(self, manager: web.Server, lane: Lane, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(manager, **kwargs)
        self._fast = _PlainCallbacks(self._parser, self, lane)
        self._parser = self._fast  # type: ignore[assignment]  # it delegates all but `feed_data`

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109  # aiohttp's signature
        """Wait for the answer that is under way, then close as aiohttp does."""
        await self._fast.answered(timeout)
        await super().shutdown(timeout)


class _PlainCallbacks:
    """Stands at the place of a connection's parser and takes plain callbacks out of what it yields."""

    def __init__(self, parser: Any, connection: _Connection, lane: Lane) -> None:  # noqa: ANN401
        self._parser = parser
        self._feed = parser.feed_data
        self._connection = connection
        self._lane = lane
        self._pending = False
        self._held: list[Message] = []  # came while an answer was pending; the parser stops at 32 unconsumed messages
        self._idle: asyncio.Future[None] | None = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._parser, name)  # everything but feeding is the parser's own

    def feed_data(self, data: bytes) -> tuple[Sequence[Message], bool, bytes]:
        """Parse; keep what is a plain callback; hand on the rest, in order."""
        messages, upgraded, tail = self._feed(data)
        if self._pending:
            self._held += messages
            return (), upgraded, tail
        if len(messages) == 1 and not upgraded and self._takes(*messages[0]):
            return (), False, tail
        return messages, upgraded, tail

    def _takes(self, message: RawRequestMessage, payload: StreamReader) -> bool:
        connection = self._connection
        waiter = connection._waiter  # noqa: SLF001
        if waiter is None or waiter.done() or connection._messages or not _plain(message, payload):  # noqa: SLF001
            return False
        who = self._lane.match(message, connection.transport)
        if who is None:
            return False
        self._accept()
        self._lane.submit(who, payload.read_nowait(), self._answer)
        return True

    def _accept(self) -> None:
        """Do what aiohttp does for a message that it takes."""
        connection = self._connection
        self._pending = True
        self._parser.message_consumed()
        connection._request_count += 1  # noqa: SLF001
        connection._manager.requests_count += 1  # type: ignore[union-attr]  # noqa: SLF001  # set while connected
        connection._next_keepalive_close_time = connection._loop.time() + connection._keepalive_timeout  # noqa: SLF001

    def _answer(self, response: bytes) -> None:
        self._pending = False
        connection = self._connection
        if connection.transport is not None:
            connection.transport.write(response)
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        if self._held:
            self._release()

    def _release(self) -> None:
        """Give what was held to the ordinary lane."""
        connection = self._connection
        connection._messages.extend(self._held)  # noqa: SLF001
        connection._request_count += len(self._held)  # noqa: SLF001
        self._held.clear()
        waiter = connection._waiter  # noqa: SLF001
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def answered(self, timeout_s: float | None) -> None:
        """Wait until no answer is pending, at most `timeout_s`."""
        if self._pending:
            self._idle = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._idle,), timeout=timeout_s)


def _plain(message: RawRequestMessage, payload: StreamReader) -> bool:
    """Tell whether this is a whole POST of HTTP/1.1 that asks for nothing special."""
    return (
        message.method == hdrs.METH_POST
        and payload.is_eof()
        and message.version == HttpVersion11
        and not message.should_close
        and not message.upgrade
        and message.compression is None
        and hdrs.EXPECT not in message.headers
        and hdrs.CONTENT_ENCODING not in message.headers
    )
