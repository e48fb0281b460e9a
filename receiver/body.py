"""Reading a callback's body: all of it, within the cap and in time, as the bytes that came."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, hdrs
from aiohttp.web_protocol import RequestPayloadError

from receiver.errors import BodyBroken, BodyTooLarge, BodyTooSlow, Disconnected

if TYPE_CHECKING:
    from aiohttp import StreamReader
    from aiohttp.web import BaseRequest

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True)
class BodyLimits:
    """How much, and for how long."""

    cap_bytes: int
    timeout_s: float


async def read_body(request: BaseRequest, limits: BodyLimits) -> bytes:
    """Return the body. Nothing is decompressed.

    Raises:
        BodyTooLarge: more than the cap is declared, or came.
        BodyTooSlow: it was not there in time.
        BodyBroken: its chunks are not HTTP.
        Disconnected: the sender went away.
    """
    if (request.content_length or 0) > limits.cap_bytes:
        raise BodyTooLarge
    content = request.content
    if content.is_eof() and content.exception() is None:  # the usual case: it came with the headers
        return _within(content.read_nowait(), limits.cap_bytes)
    try:
        async with asyncio.timeout(limits.timeout_s):
            await _invite(request)
            return await _read_all(content, limits.cap_bytes)
    except TimeoutError:
        raise BodyTooSlow from None
    except ConnectionError:
        raise Disconnected from None
    except RequestPayloadError:
        raise BodyBroken from None


async def _invite(request: BaseRequest) -> None:
    """Ask for the body where the sender waits to be asked; an expectation that we do not know changes nothing."""
    if request.version == HttpVersion11 and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(_CONTINUE)


async def _read_all(content: StreamReader, cap_bytes: int) -> bytes:
    parts, size = [], 0
    while part := await content.readany():
        size += len(part)
        if size > cap_bytes:
            raise BodyTooLarge
        parts.append(part)
    return b"".join(parts)


def _within(body: bytes, cap_bytes: int) -> bytes:
    if len(body) > cap_bytes:
        raise BodyTooLarge
    return body
