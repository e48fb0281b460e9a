"""Files that are read again when they change, without a restart."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LOOK_S = 1.0  # how often they are looked at: a new token or certificate is good about as soon as it is written


class Watch:
    """Remembers what some files were like when they were last read."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self.note()

    def note(self) -> None:
        """Remember what they are like now. To be called before they are read, so that no change is missed."""
        self._stamps = self._now()

    async def follow(self, reload: Callable[[], None]) -> None:
        """Call `reload`, which has to `note`, whenever one was written, replaced or removed. Until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._now() != self._stamps:
                reload()

    def _now(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in self._paths]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
