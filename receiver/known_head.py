"""The head of the callback before, on the same connection: a sender repeats it, but for the length of the body.

How HTTP reads a head depends on nothing but its bytes. So a head that aiohttp's parser has read once need not be read
again: it is compared. Only the digits of its `Content-Length` may differ, and they have to be, digit for digit, the
number of bytes that came behind it. Everything else is the parser's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp import hdrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp.http_parser import RawRequestMessage

UNKNOWN = -1
_MOST_BYTES = 4_096  # kept for each connection
# Lines that every reader of HTTP tells apart in the same way: no lone CR or LF, none before the request line.
_HEAD = re.compile(rb"(?:[^\r\n]++\r\n)++\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*+(\d++)\r\n", re.IGNORECASE)
_DIGITS = re.compile(r"[0-9]{1,9}")


def message_bytes(data: bytes, message: RawRequestMessage) -> int:
    """Return the length of the message, head and body, that begins with `data`; UNKNOWN where it is open to doubt."""
    head = _HEAD.match(data)
    if head is None or message.chunked or message.upgrade or message.should_close:
        return UNKNOWN
    lengths = message.headers.getall(hdrs.CONTENT_LENGTH, ("0",))
    if len(lengths) != 1 or not _DIGITS.fullmatch(lengths[0]):
        return UNKNOWN
    return head.end() + int(lengths[0])


def left_bytes_of(left_bytes: int, data: bytes, messages: Sequence[tuple[RawRequestMessage, object]]) -> int:
    """Return how much of the message that the parser is in has still to come once it has parsed `data`.

    `left_bytes` is what it was before, `messages` those that the parser found to begin. 0: it stands between two.
    """
    if left_bytes > 0 or not data:
        return max(left_bytes - len(data), UNKNOWN)  # more than that one message: another one has begun
    if left_bytes == UNKNOWN or len(messages) != 1:
        return UNKNOWN
    return max(message_bytes(data, messages[0][0]) - len(data), UNKNOWN)


class KnownHead:
    """A head in two parts, before and behind the digits of its length."""

    __slots__ = ("_before", "_before_bytes", "_behind")

    def __init__(self, before: bytes, behind: bytes) -> None:
        self._before = before
        self._before_bytes = len(before)
        self._behind = behind

    @classmethod
    def of(cls, data: bytes) -> KnownHead | None:
        """Return the head of a request of which `message_bytes` is the length of `data`; None where it is too long."""
        head = _HEAD.match(data)
        if head is None or head.end() > _MOST_BYTES:
            return None
        length = _LENGTH.search(head[0])
        return cls(head[0][: length.start(1)], head[0][length.end(1) :]) if length else None

    def body(self, data: bytes) -> bytes | None:
        """Return the body if `data` is this head with a length of its own, and so many bytes behind it; else None."""
        if not data.startswith(self._before):
            return None
        end = data.find(b"\r", self._before_bytes)
        if not data.startswith(self._behind, end):  # nor does it if there is none: `_behind` is longer than one byte
            return None
        body_at = end + len(self._behind)
        if data[self._before_bytes : end] != b"%d" % (len(data) - body_at):
            return None
        return data[body_at:]
