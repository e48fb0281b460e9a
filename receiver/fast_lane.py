"""The fast lane: a plain callback goes from aiohttp's parser straight to the journal.

aiohttp's server stays in charge of every connection: timeouts, limits, shutdown, everything unusual. At the place of
a connection's parser stands `FastLane`. When the parser yields one complete, plain callback with a good token on
an idle connection, it is submitted and answered from the commit, without a task, a request or a response object: two
thirds of aiohttp's time. The next one with the same head is taken without the parser (`known_head.py`): half of the
rest. Anything else is handed on untouched and takes the ordinary lane.

This is the one file that uses aiohttp's private attributes; `missing_attributes` lists those that are gone, and then
the receiver runs on the ordinary lane alone and says so. What is no HTTP is turned away here, too, for little.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from aiohttp import HttpVersion11, hdrs
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from receiver.answers import render
from receiver.known_head import UNKNOWN, KnownHead, left_bytes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp.http_parser import RawRequestMessage

    from receiver.answers import Answer
    from receiver.fast_callbacks import Callbacks
    from receiver.server import Server
    from receiver.tokens import ActiveToken

_HEAD_BYTES = 16_384  # of an unfinished request line with its headers: what a silent connection may make us keep

_ATTRIBUTES = frozenset(
    {
        "_parser",  # replaced by `FastLane`
        "_waiter",  # set and not done: the connection is idle
        "_messages",  # what the ordinary lane has still to handle
        "_manager",  # counts requests
        "_request_count",
        "_next_keepalive_close_time",  # moved when a callback arrives: a pending answer is not idleness
        "_keepalive_timeout",
        "_reading_paused",  # a large body has stopped the reading, and taking it has to start it again
    }
)
_PAYLOAD_ATTRIBUTES = frozenset({"_buffer"})  # of a StreamReader: reading it would have aiohttp look for more each time


def missing_attributes() -> list[str]:
    """Name the private attributes of aiohttp that this file uses and that the installed version has not."""
    there = {name for kind in RequestHandler.__mro__ for name in getattr(kind, "__slots__", ())}
    return sorted((_ATTRIBUTES - there) | (_PAYLOAD_ATTRIBUTES - set(StreamReader.__slots__)))


class FastLane:
    """Stands at the place of a connection's parser and takes plain callbacks out of what it yields."""

    def __init__(self, connection: Any, callbacks: Callbacks, server: Server) -> None:  # noqa: ANN401  # RequestHandler, with its private attributes
        parser = connection._parser
        self._feed = parser.feed_data
        # The rest is the parser's own. Named one by one: `__getattr__` would slow down every attribute here.
        self.message_consumed = parser.message_consumed
        self.pause_reading = parser.pause_reading
        self.feed_eof = parser.feed_eof
        self.set_upgraded = parser.set_upgraded
        self._connection = connection
        self._callbacks = callbacks
        self._server = server
        self._door = callbacks.door
        self._head_of = self._head_bytes = 0
        self._left_bytes = 0  # of the message that the parser is in; 0: it stands between two; UNKNOWN
        self._known: tuple[KnownHead, ActiveToken, Any] | None = None  # of the last callback: head, token, headers
        self._pending = False
        self._broken = False
        self._held: list[tuple[RawRequestMessage, StreamReader]] = []  # at most 32: then the parser stops by itself
        self._idle: asyncio.Future[None] | None = None
        connection._parser = self

    def takes(self, data: bytes) -> bool:
        """Take a callback whose head is the one before: the parser, which stands between two, never hears of it."""
        if self._known is None or self._left_bytes or self._pending:
            return False
        head, token, headers = self._known
        body = head.body(data)
        if body is None or not token.active or not self._may_take(headers):
            return False
        self._accept()
        self._callbacks.store(token, body, self._answer)
        return True

    def feed_data(self, data: bytes) -> tuple[Sequence[Any], bool, bytes]:
        """Parse; keep what is a plain callback; hand on the rest, in order."""
        left_bytes, self._left_bytes = self._left_bytes, UNKNOWN  # as it stays where the parser raises
        try:
            messages, upgraded, tail = self._feed(data)
            if not messages:
                self._bound_head(len(data))
        except HttpProcessingError:
            if not (self._pending or self._idles()):
                raise
            self._break_off()
            return (), False, b""
        self._left_bytes = left_bytes_of(left_bytes, data, messages) if not upgraded else UNKNOWN
        if self._pending:
            self._held += messages
            return (), upgraded, tail
        if len(messages) == 1 and not upgraded and self._takes_parsed(data, *messages[0]):
            return (), False, tail
        return messages, upgraded, tail

    def _bound_head(self, size: int) -> None:
        """Refuse headers without an end: aiohttp bounds each one and their number, which comes to 800 KB."""
        connection = self._connection
        if not self._idles():
            return  # this was a body, or it has to wait
        if connection._request_count != self._head_of:
            self._head_of, self._head_bytes = connection._request_count, 0
        self._head_bytes += size
        if self._head_bytes > _HEAD_BYTES:
            raise LineTooLong("headers", str(_HEAD_BYTES))

    def _idles(self) -> bool:
        """Tell whether nothing is being answered, or waits to be."""
        return not (self._pending or self._connection._waiter is None or self._connection._messages)

    def _break_off(self) -> None:
        """End a connection that is no HTTP any more, behind the answer that is pending."""
        if self._pending:
            self._broken = True
        else:
            self._connection.turn_away()

    def _takes_parsed(self, data: bytes, message: RawRequestMessage, payload: StreamReader) -> bool:
        if not _plain(message, payload) or not self._may_take(message.headers):
            return False
        token = self._callbacks.match(message.method, message.path)
        if token is None:
            return False
        head = KnownHead.of(data) if self._left_bytes == 0 else None
        self._known = (head, token, message.headers if self._door else None) if head else None
        if not self._connection.proven:
            self._connection.prove()
        self.message_consumed()
        self._accept()
        self._callbacks.store(token, self._body(payload), self._answer)
        return True

    def _may_take(self, headers: Any) -> bool:  # noqa: ANN401  # aiohttp's; looked at where there is a door
        connection = self._connection
        waiter = connection._waiter
        if waiter is None or waiter.done() or connection._messages:
            return False  # not idle
        if self._server.draining or self._callbacks.crowded:
            return False
        return self._door is None or not self._door.refuses(headers, connection.peername[0])

    def _body(self, payload: StreamReader) -> bytes:
        """Take what is wholly there. aiohttp's own way parses and resumes once more, a tenth of a callback's time."""
        if self._connection._reading_paused or not payload.total_bytes:
            return payload.read_nowait()
        chunks = payload._buffer
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _accept(self) -> None:
        """Do what aiohttp does for a message that it takes."""
        connection = self._connection
        self._pending = True
        connection._request_count += 1
        connection._manager.requests_count += 1
        connection._next_keepalive_close_time = connection._loop.time() + connection._keepalive_timeout

    def _answer(self, answer: Answer) -> None:
        self._pending = False
        connection = self._connection
        if connection.transport is not None:
            close = answer.closes or self._server.draining
            connection.transport.write(render(answer, time.time(), close=close))
            if close:
                connection.force_close()
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        if self._broken:
            connection.turn_away()
        elif self._held:
            self._release()

    def _release(self) -> None:
        """Give what was held to the ordinary lane."""
        connection = self._connection
        connection._messages.extend(self._held)
        connection._request_count += len(self._held)
        self._held.clear()
        waiter = connection._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def answered(self, timeout_s: float | None) -> None:
        """Return when no answer is pending any more, after `timeout_s` at most."""
        if self._pending:
            self._idle = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._idle,), timeout=timeout_s)


def _plain(message: RawRequestMessage, payload: StreamReader) -> bool:
    """Tell whether this is a whole POST of HTTP/1.1 that asks for nothing special."""
    return (
        message.method == hdrs.METH_POST
        and payload.is_eof()
        and payload.exception() is None
        and message.version == HttpVersion11
        and not message.should_close
        and not message.upgrade
        and message.compression is None
        and hdrs.EXPECT not in message.headers
        and hdrs.CONTENT_ENCODING not in message.headers
    )
