"""glibc's memory, for processes that allocate in one thread what another one frees."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # malloc.h


def one_heap() -> bool:
    """Have all threads share one heap, from now on: each of their own keeps what it once needed, 15 MB in all.

    To be called before there are threads. Returns False where the C library is another one, and nothing changes.
    """
    library = ctypes.CDLL(None)
    return hasattr(library, "mallopt") and library.mallopt(_M_ARENA_MAX, 1) == 1
