"""Connections before they have anything to say, and the count of all.

A connection that is silent is a few hundred bytes and its socket: the parser, the task and the timer that aiohttp gives
to each are made with its first bytes. So thousands that say nothing cost little to take and little to keep.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.connection import Connection


class Stranger(Protocol):
    """Who has brought no callback with a good token yet."""

    def cut(self) -> None:
        """Close the connection now."""


class Connections:
    """All that are open. Strangers are bounded, not refused: over the cap the one that has been here longest goes.

    So thousands that say nothing keep nobody out who has something to say; with its first bytes a stranger goes to the
    end of the line. Connections that brought a callback are not bounded.
    """

    def __init__(self, strangers_cap: int, silence_s: float) -> None:
        """`silence_s` is how long one may be open and say nothing."""
        self._strangers_cap = strangers_cap
        self._silence_s = silence_s
        self._strangers: dict[Stranger, float] = {}  # in the order of their coming, with its time
        self._looking: asyncio.TimerHandle | None = None
        self.count = 0
        self.crowded_out = 0
        self.empty = asyncio.Event()
        self.empty.set()

    def opened(self, silent: Silent) -> None:
        """Take a new one; the oldest stranger may have to go for it."""
        self.count += 1
        self.empty.clear()
        loop = asyncio.get_running_loop()
        self._strangers[silent] = loop.time()
        if self._looking is None:
            self._looking = loop.call_later(self._silence_s, self._end_silences)
        if len(self._strangers) > self._strangers_cap:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.cut()
            self.crowded_out += 1

    def spoke(self, silent: Silent, connection: Stranger) -> None:
        """Have the connection stand for the silent one that it was."""
        if self._strangers.pop(silent, None) is not None:
            self._strangers[connection] = asyncio.get_running_loop().time()

    def proven(self, stranger: Stranger) -> None:
        """Note that it brought a callback with a good token."""
        self._strangers.pop(stranger, None)

    def closed(self, stranger: Stranger) -> None:
        """Forget it."""
        self._strangers.pop(stranger, None)
        self.count -= 1
        if self.count == 0:
            self.empty.set()

    def end(self) -> None:
        """Close those that are silent, the server stops."""
        if self._looking is not None:
            self._looking.cancel()
        self._cut_silent(float("inf"))

    def _cut_silent(self, until_s: float) -> None:
        """Close those that came before, and have said nothing since."""
        came_first = [one for one, came_s in self._strangers.items() if came_s <= until_s]
        for stranger in came_first:
            if isinstance(stranger, Silent):
                stranger.cut()

    def _end_silences(self) -> None:
        loop = asyncio.get_running_loop()
        self._cut_silent(loop.time() - self._silence_s)
        self._looking = None
        if self._strangers:
            self._looking = loop.call_later(self._silence_s / 10, self._end_silences)


class Silent(asyncio.Protocol):
    """A connection that has said nothing yet; with its first bytes a real one takes its place."""

    __slots__ = ("_connections", "_real", "_said", "_speak", "_transport")

    def __init__(self, connections: Connections, speak: Callable[[], Connection]) -> None:
        """`speak` makes the real one."""
        self._connections = connections
        self._speak = speak
        self._real: Connection | None = None
        self._said: list[bytes] = []
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.opened(self)

    def data_received(self, data: bytes) -> None:
        """Make the real one, and give it the bytes a turn later: the fast lane wants one that waits for them."""
        self._said.append(data)
        if self._real is None:
            self._transport.pause_reading()  # a large body is taken in turns, as aiohttp does
            self._real = self._speak()
            self._connections.spoke(self, self._real)
            self._real.connection_made(self._transport)
            asyncio.get_running_loop().call_soon(self._hand_over)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        real, self._real = self._real, None
        if real is not None:
            real.connection_lost(exc)
        else:
            self._connections.closed(self)

    def cut(self) -> None:
        """Close it now."""
        self._transport.abort()

    def _hand_over(self) -> None:
        real, self._real = self._real, None
        if real is not None:  # else it is lost meanwhile
            self._transport.set_protocol(real)
            if not self._transport.is_closing():
                self._transport.resume_reading()
            real.data_received(b"".join(self._said))
