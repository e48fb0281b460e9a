"""The ids of the recent rows: what Blu sends again is recognised here, without asking the table.

An id takes 32 bytes, where a set of Python objects would take over 100: five million are an hour of 1,400 a second.
"""

from __future__ import annotations

REPEATS_S = 3_600
"""Blu repeats a result for 25 minutes; the rest is for the clocks of two receivers."""

FROM_TABLE = 0xFFFF
"""Stands for the partition of ids that were read from the table, which does not say."""

_ID_BYTES = 14
_ENTRY_BYTES = _ID_BYTES + 4 + 2
_LAST_SECOND = 2**32 - 1
_SECOND = 1_000_000


class Memory:
    """Knows every id that it was given, up to `limit`; then the one that came first makes room.

    What it was not given lies before `horizon_s` (seconds since 1970); each partition's horizon moves past what was
    forgotten of it. Ids are hashes, so that their first two bytes spread them evenly.
    """

    def __init__(self, horizon_s: int, limit: int) -> None:
        self._limit = limit
        self._horizons = {FROM_TABLE: horizon_s}
        self._entries: dict[bytes, bytearray] = {}
        """First two bytes of an id to entries: its other 14, the second it was received (4), the partition (2)."""
        self._order = bytearray()
        """The first two bytes of every id, in the order they came."""

    def __len__(self) -> int:
        return len(self._order) // 2

    def __contains__(self, event_id: str) -> bool:
        packed = _packed(event_id)
        entries = self._entries.get(packed[:2])
        if entries is None:
            return False
        rest = packed[2:]
        at = entries.find(rest)
        while at > 0 and at % _ENTRY_BYTES:  # found across two entries: chance, or somebody's malice
            at = entries.find(rest, at + 1)
        return at >= 0

    def covers(self, partition: int, received_at: int) -> bool:
        """Tell whether what a live result, received then (microseconds), may repeat would be known here."""
        horizon_s = max(self._horizons[FROM_TABLE], self._horizons.get(partition, 0))
        return received_at // _SECOND - REPEATS_S >= horizon_s

    def add(self, event_id: str, received_at: int, partition: int = FROM_TABLE) -> None:
        """Take up an id; `received_at` in microseconds."""
        packed = _packed(event_id)
        first = packed[:2]
        if (entries := self._entries.get(first)) is None:
            entries = self._entries[first] = bytearray()
        second = min(max(received_at // _SECOND, 0), _LAST_SECOND)
        entries += packed[2:] + second.to_bytes(4) + partition.to_bytes(2)
        self._order += first
        if len(self._order) > 2 * self._limit:
            self._forget()

    def _forget(self) -> None:
        entries = self._entries[bytes(self._order[:2])]
        second = int.from_bytes(entries[_ID_BYTES : _ID_BYTES + 4])
        partition = int.from_bytes(entries[_ID_BYTES + 4 : _ENTRY_BYTES])
        del entries[:_ENTRY_BYTES], self._order[:2]
        self._horizons[partition] = max(self._horizons.get(partition, 0), second + 1)


def _packed(event_id: str) -> bytes:
    return bytes.fromhex(event_id.replace("-", ""))
