"""The ids of the recent rows: what Blu sends again is recognised here, without asking the table.

An id takes 32 bytes, where a set of Python objects would take over 100: five million are an hour of 1,400 a second.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

REPEATS_S = 3_600
"""Blu repeats a result for 25 minutes; the rest is for the clocks of two receivers."""

FROM_TABLE = 0xFFFF
"""Stands for the partition of ids that were read from the table, which does not say."""

_ID_BYTES = 14
_ENDING = Struct(">IH")
_ENTRY_BYTES = _ID_BYTES + _ENDING.size
_LAST_SECOND = 2**32 - 1
_SECOND = 1_000_000


class Memory:
    """Knows every id (`packed`) that it was given, up to `limit`; then the one that came first makes room.

    What it was not given lies before `horizon_s` (seconds since 1970); each partition's horizon moves past what was
    forgotten of it. Ids are hashes, so that their first two bytes spread them evenly.
    """

    def __init__(self, horizon_s: int, limit: int) -> None:
        self._limit = limit
        self._horizons = {FROM_TABLE: horizon_s}
        self._entries: defaultdict[bytes, bytearray] = defaultdict(bytearray)
        """First two bytes of an id to entries: its other 14, the second it was received (4), the partition (2)."""
        self._order = bytearray()
        """The first two bytes of every id, in the order they came."""

    def __len__(self) -> int:
        return len(self._order) // 2

    def __contains__(self, event_id: bytes) -> bool:
        entries = self._entries.get(event_id[:2])
        if entries is None:
            return False
        rest = event_id[2:]
        at = entries.find(rest)
        while at > 0 and at % _ENTRY_BYTES:  # found across two entries: chance, or somebody's malice
            at = entries.find(rest, at + 1)
        return at >= 0

    def covered_from(self, partition: int) -> int:
        """Return from when (microseconds) on whatever a live result, received then, may repeat would be known here."""
        return (max(self._horizons[FROM_TABLE], self._horizons.get(partition, 0)) + REPEATS_S) * _SECOND

    def add(self, event_ids: Sequence[bytes], received_at: Iterable[int], partitions: Iterable[int]) -> None:
        """Take up ids; `received_at` in microseconds."""
        entries = self._entries
        for event_id, at, partition in zip(event_ids, received_at, partitions, strict=True):
            entries[event_id[:2]] += event_id[2:] + _ending(at // _SECOND, partition)
        self._order += b"".join([event_id[:2] for event_id in event_ids])
        if len(self) > self._limit:
            self._forget(len(self) - self._limit)

    def _forget(self, count: int) -> None:
        for place in range(0, 2 * count, 2):
            entries = self._entries[bytes(self._order[place : place + 2])]
            second, partition = _ENDING.unpack_from(entries, _ID_BYTES)
            del entries[:_ENTRY_BYTES]
            if second >= self._horizons.get(partition, 0):
                self._horizons[partition] = second + 1
        del self._order[: 2 * count]


@lru_cache(maxsize=1_024)  # what comes together was received together
def _ending(second: int, partition: int) -> bytes:
    return _ENDING.pack(min(max(second, 0), _LAST_SECOND), partition)


def packed(event_ids: Iterable[str]) -> list[bytes]:
    """Return ids as 16 bytes each."""
    joined = bytes.fromhex("".join(event_ids).replace("-", ""))
    return [joined[place : place + 16] for place in range(0, len(joined), 16)]
