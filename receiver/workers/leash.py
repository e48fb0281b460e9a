"""A worker's end of the pair of sockets that ties it to its supervisor."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from receiver.app import Receiver


class Leash:
    """Tells the supervisor where the worker answers; stops the worker when the supervisor wants it to, or is gone."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    async def hold(self, receiver: Receiver, stop: asyncio.Event) -> None:
        """Set `stop` when the other end is closed. Runs until then."""
        reader, writer = await asyncio.open_connection(sock=self._socket)
        try:
            await receiver.started.wait()
            writer.write(orjson.dumps({"admin_port": receiver.admin_port}) + b"\n")
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()
            stop.set()
