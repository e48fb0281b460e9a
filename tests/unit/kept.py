"""A connection that is kept: the fast lane takes callbacks on an idle one only."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .receivers import BODY, TOKEN, Answered, Running


def kept(body: bytes = BODY, token: str = TOKEN, headers: str = "") -> bytes:
    """Write a request that lets its connection live."""
    return (
        f"POST /callbacks/{token} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
    )


class Kept:
    """One kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, request: bytes) -> Answered:
        self.writer.write(request)
        async with asyncio.timeout(60):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            return Answered(head + await self.reader.readexactly(length))

    @property
    def certificate(self) -> bytes:
        """What the other side showed, DER."""
        return self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)


@asynccontextmanager
async def connected(one: Running, tls: ssl.SSLContext | None = None, name: str = "localhost") -> AsyncIterator[Kept]:
    """Connect and have one miss answered: now the connection is idle, and known to be."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", one.receiver.port, ssl=tls, server_hostname=name if tls else None
    )
    client = Kept(reader, writer)
    try:
        assert (await client.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).status == 404
        yield client
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)
