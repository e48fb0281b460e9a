"""Windows that are read and decoded before it is their turn."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from receiver.window import Window


class Ahead:
    """So many windows, each made when the one before it is; what goes wrong is told in its turn. `close` it."""

    def __init__(self, read: Callable[[int], Coroutine[Any, Any, Window]], after: int, windows: int) -> None:
        """`read` returns the window behind a sequence, when there is one; it never runs twice at once."""
        self._read = read
        self._latest = asyncio.create_task(read(after))
        self._made = deque((self._latest,))
        for _ in range(windows - 1):
            self._make_another()

    @property
    def ready(self) -> bool:
        """Whether `take` would return at once. False, too, where it would raise."""
        first = self._made[0]
        return first.done() and not first.cancelled() and first.exception() is None

    async def take(self) -> Window:
        """Return the next window; have another one made. Raises what `read` raised there."""
        window = await self._made[0]
        self._made.popleft()
        self._make_another()
        return window

    async def close(self) -> None:
        for task in self._made:
            task.cancel()
        await asyncio.wait(self._made)
        for task in self._made:
            _ = task.cancelled() or task.exception()  # it is taken, whatever ended us

    def _make_another(self) -> None:
        self._latest = asyncio.create_task(self._behind(self._latest))
        self._made.append(self._latest)

    async def _behind(self, before: asyncio.Task[Window]) -> Window:
        return await self._read((await before).last)
