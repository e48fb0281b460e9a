"""murmur2 as the Java client's default partitioner computes it, at half the time of aiokafka's."""

from __future__ import annotations

import struct

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_MASK = 0xFFFFFFFF
_WORDS = [struct.Struct(f"<{words}I").unpack_from for words in range(128)]  # longer keys: merchant and id have limits


def murmur2(key: bytes) -> int:
    """Return the hash, 32 bits."""
    length = len(key)
    words = length >> 2
    hashed = _SEED ^ length
    for word in _WORDS[words](key) if words < len(_WORDS) else struct.unpack_from(f"<{words}I", key):
        mixed = word * _MIX & _MASK
        hashed = (hashed * _MIX ^ (mixed ^ mixed >> 24) * _MIX) & _MASK
    if length & 3:
        hashed = (hashed ^ int.from_bytes(key[words << 2 :], "little")) * _MIX & _MASK
    hashed = (hashed ^ hashed >> 13) * _MIX & _MASK
    return hashed ^ hashed >> 15
