"""One commit group as bytes: a header, then its callbacks, then zeros up to a multiple of 8.

Header: magic, CRC of the rest of the header, segment number, sequence of the first callback, CRC of the payload, length
of the payload in bytes, count of callbacks. A callback: receive time in ms, lengths of merchant and body, merchant,
body. Little-endian. Both checksums start from the segment's random seed: a frame inside somebody's body, or one of
another segment, is never taken for one of ours.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

MAGIC = b"DRJ1"
ALIGNMENT = 8
_HEADER = struct.Struct("<4sIQQIII")
_COVERED = struct.Struct("<QQIII")
_CALLBACK = struct.Struct("<qHI")
HEADER_BYTES = _HEADER.size
_BLANK_HEADER = bytes(HEADER_BYTES)
_COVERED_FROM = HEADER_BYTES - _COVERED.size


class SegmentId(NamedTuple):
    """Numbers ascend and are never used again."""

    number: int
    seed: int  # 32 random bits


class Entry(NamedTuple):
    """A callback on its way in."""

    received_ms: int
    merchant: bytes
    body: bytes


class JournaledCallback(NamedTuple):
    """A callback as it is read back."""

    sequence: int
    received_ms: int
    merchant: str
    body: bytes


class Header(NamedTuple):
    """Checked against its own CRC, so its length can be trusted even where the payload cannot."""

    sequence: int
    payload_crc: int
    payload_bytes: int
    callbacks: int

    @property
    def last(self) -> int:
        return self.sequence + self.callbacks - 1

    @property
    def frame_bytes(self) -> int:
        return HEADER_BYTES + self.payload_bytes


def pack(entries: Iterable[Entry]) -> bytearray:
    """Return the frame with its header still blank: `seal` fills it in once the segment is known."""
    parts: list[bytes] = [_BLANK_HEADER]
    for received_ms, merchant, body in entries:
        parts += (_CALLBACK.pack(received_ms, len(merchant), len(body)), merchant, body)
    frame = bytearray().join(parts)
    frame += bytes(-len(frame) % ALIGNMENT)
    return frame


def seal(frame: bytearray, segment: SegmentId, sequence: int, count: int) -> None:
    """Fill in the header of a packed frame, whose first callback has this sequence."""
    with memoryview(frame) as view:
        payload_crc = crc32(view[HEADER_BYTES:], segment.seed)
    covered = (segment.number, sequence, payload_crc, len(frame) - HEADER_BYTES, count)
    _HEADER.pack_into(frame, 0, MAGIC, crc32(_COVERED.pack(*covered), segment.seed), *covered)


def read_header(buffer: bytes, offset: int, segment: SegmentId) -> Header | None:
    """Return the header at the offset, or None where there is no good one of this segment."""
    if len(buffer) - offset < HEADER_BYTES or not buffer.startswith(MAGIC, offset):
        return None
    _, header_crc, number, *rest = _HEADER.unpack_from(buffer, offset)
    covered = memoryview(buffer)[offset + _COVERED_FROM : offset + HEADER_BYTES]
    if number != segment.number or header_crc != crc32(covered, segment.seed):
        return None
    return Header(*rest)


def payload_is_good(header: Header, payload: memoryview, segment: SegmentId) -> bool:
    return len(payload) == header.payload_bytes and crc32(payload, segment.seed) == header.payload_crc


def unpack(header: Header, payload: memoryview) -> list[JournaledCallback]:
    """Return the callbacks of a payload that `payload_is_good` has passed."""
    callbacks = []
    offset = 0
    merchants: dict[bytes, str] = {}
    for sequence in range(header.sequence, header.last + 1):
        received_ms, merchant_bytes, body_bytes = _CALLBACK.unpack_from(payload, offset)
        body_at = offset + _CALLBACK.size + merchant_bytes
        offset = body_at + body_bytes
        name = bytes(payload[body_at - merchant_bytes : body_at])
        merchant = merchants.get(name)
        if merchant is None:
            merchant = merchants[name] = name.decode()
        callbacks.append(JournaledCallback(sequence, received_ms, merchant, bytes(payload[body_at:offset])))
    return callbacks
