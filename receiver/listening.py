"""How a listening socket ends without a reset: what the kernel has accepted for us is taken before it is closed."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HANDSHAKE_S = 0.2  # for handshakes under way, and for the loop to take what waits

_SO_ATTACH_FILTER = 26  # Linux, asm-generic/socket.h; Python has no name for it
# Classic BPF over the TCP header (linux/filter.h): load the byte of flags, keep SYN and ACK; SYN alone is dropped.
_FLAGS, _SYN, _SYN_AND_ACK = 13, 0x02, 0x12
_DROP_SYN = (
    (0x30, 0, 0, _FLAGS),  # ldb [13]
    (0x54, 0, 0, _SYN_AND_ACK),  # and #0x12
    (0x15, 0, 1, _SYN),  # jeq #0x02, next, one further
    (0x06, 0, 0, 0),  # ret #0: dropped
    (0x06, 0, 0, 0xFFFFFFFF),  # ret: all of it
)


async def take_the_last(listening: Sequence[socket.socket]) -> None:
    """Let nobody begin a connection here any more, and those that have begun be taken.

    A connection is the kernel's until we take it, and closing the socket resets those not taken. Who begins one
    meanwhile is not answered, and tries again a second later (TCP): then another worker is there, or nobody. Where the
    kernel has no such filter nothing is held back, and a connection of the last moment may be reset.
    """
    for each in listening:
        with suppress(OSError):
            _drop_new_ones(each.fileno())
    await asyncio.sleep(HANDSHAKE_S)


def _drop_new_ones(fd: int) -> None:
    """Raises OSError."""
    program = b"".join(struct.pack("HBBI", *step) for step in _DROP_SYN)
    kept = ctypes.create_string_buffer(program, len(program))
    filter_of = struct.pack("HL", len(_DROP_SYN), ctypes.addressof(kept))
    same = socket.socket(fileno=fd)
    try:
        same.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_of)
    finally:
        same.detach()  # it is the server's
