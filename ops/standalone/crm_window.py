"""The sandbox CRM's limit: so many calls in any window of time."""

from __future__ import annotations

import time
from collections import deque


class Window:
    """Counts calls as HubSpot does: per account, those answered 429 not included."""

    def __init__(self, limit: int, window_s: float) -> None:
        self.limit = limit
        self.window_s = window_s
        self._taken: deque[float] = deque()

    def take(self) -> float:
        """Take a place and return 0, or return the seconds until there is one."""
        now = time.monotonic()
        while self._taken and self._taken[0] <= now - self.window_s:
            self._taken.popleft()
        if len(self._taken) >= self.limit:
            return self._taken[0] + self.window_s - now
        self._taken.append(now)
        return 0.0

    @property
    def remaining(self) -> int:
        """Places left."""
        return self.limit - len(self._taken)
