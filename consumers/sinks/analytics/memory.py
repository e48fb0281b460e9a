"""The ids of the recent rows: what Blu sends again is recognised here, without asking the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT = 500_000  # ids: some 60 MB
HOURS = 48
REPEATS_US = 60 * 60 * 1_000_000  # Blu repeats a result for 25 minutes; this is what an hour's late clock may add


class Memory:
    """Knows every id of the table that was received at or after its horizon (microseconds since 1970)."""

    def __init__(self, horizon: int, limit: int = LIMIT) -> None:
        self._horizon = horizon
        self._limit = limit
        self._received: dict[bytes, int] = {}

    def __contains__(self, event_id: str) -> bool:
        return _packed(event_id) in self._received

    def covers(self, received_at: int) -> bool:
        """Tell whether a result received then, and all that it may repeat, would be known here."""
        return received_at - REPEATS_US >= self._horizon

    def add(self, rows: Iterable[tuple[str, int]]) -> None:
        """Take up ids with the time they were received; the oldest make room, and the horizon moves past them."""
        for event_id, received_at in rows:
            self._received[_packed(event_id)] = received_at
        while len(self._received) > self._limit:
            forgotten = self._received.pop(next(iter(self._received)))
            self._horizon = max(self._horizon, forgotten + 1)


def _packed(event_id: str) -> bytes:
    return bytes.fromhex(event_id.replace("-", ""))
