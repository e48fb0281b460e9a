"""The ids of the recent rows: what Blu sends again is recognised here, without asking the table.

Hash tables of 16 bytes a slot, asked by numpy a batch at a time: a look and an add take 0.1 us an id with few known and
0.5 us with five million, where bytes searched by Python took 0.8 and 3.6. Five million are an hour of 1,400 a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Ids: TypeAlias = NDArray[np.uint64]
    """Event ids, `packed`: a row of two words each."""
    Numbers: TypeAlias = NDArray[np.int64]
    Mask: TypeAlias = NDArray[np.bool_]

REPEATS_S = 3_600
"""Blu repeats a result for 25 minutes; the rest is for the clocks of two receivers."""

FROM_TABLE = 0xFFFF
"""Stands for the partition of ids that were read from the table, which does not say."""

_PARTS = 4  # of the limit: so much is forgotten at once
_ROOM = 1.5  # slots an id
_SECOND = 1_000_000


class Memory:
    """Knows the ids that it was given: the last `limit` at least, and at most a quarter more.

    What it was not given lies before `horizon_s` (seconds since 1970); each partition's horizon moves past what was
    forgotten of it.
    """

    def __init__(self, horizon_s: int, limit: int) -> None:
        self._capacity = -(-limit // _PARTS)
        self._horizons = {FROM_TABLE: horizon_s}
        self._generations: list[_Generation] = [_Generation(self._capacity)]
        """The one that is being filled last."""

    def __len__(self) -> int:
        return sum(one.count for one in self._generations)

    def knows(self, ids: Ids) -> Mask:
        """Tell of each id whether it is known."""
        found = np.zeros(len(ids), np.bool_)
        for generation in self._generations:
            found |= generation.knows(ids)
        return found

    def covered_from(self, partition: int) -> int:
        """Return from when (microseconds) on whatever a live result, received then, may repeat would be known here."""
        return (max(self._horizons[FROM_TABLE], self._horizons.get(partition, 0)) + REPEATS_S) * _SECOND

    def add(self, ids: Ids, received_at: Numbers, partitions: Numbers) -> None:
        """Take up ids, no two of them the same; `received_at` in microseconds."""
        while len(ids):
            room = self._capacity - self._generations[-1].count
            if not room:
                self._begin()
                continue
            self._generations[-1].add(ids[:room], received_at[:room] // _SECOND, partitions[:room])
            ids, received_at, partitions = ids[room:], received_at[room:], partitions[room:]

    def _begin(self) -> None:
        self._generations.append(_Generation(self._capacity))
        if len(self._generations) > _PARTS + 1:
            for partition, second in self._generations.pop(0).last.items():
                self._horizons[partition] = max(self._horizons.get(partition, 0), second + 1)


class _Generation:
    """Open addressing: an id stands in the first free slot from where its own bits point. Ids are hashes already."""

    def __init__(self, capacity: int) -> None:
        slots = 1 << int(capacity * _ROOM).bit_length()
        self._last_slot = slots - 1
        self._words = np.zeros(slots, np.uint64), np.zeros(slots, np.uint64)
        self.count = 0
        self.last: dict[int, int] = {}
        """Partition to the latest second in which one of its ids was received."""

    def knows(self, ids: Ids) -> Mask:
        first, second = self._words
        found = np.zeros(len(ids), np.bool_)
        asked, at = np.arange(len(ids)), self._slot(ids)
        words = ids[:, 0]
        while len(asked):
            there = first[at]
            (same,) = np.nonzero(there == words)
            found[asked[same]] |= second[at[same]] == ids[asked[same], 1]
            (on,) = np.nonzero(there)
            asked, words, at = asked[on], words[on], (at[on] + 1) & self._last_slot
            if len(same):
                left = ~found[asked]
                asked, words, at = asked[left], words[left], at[left]
        return found

    def add(self, ids: Ids, seconds: Numbers, partitions: Numbers) -> None:
        self.count += len(ids)
        for partition in np.unique(partitions).tolist():
            latest = int(seconds[partitions == partition].max())
            self.last[partition] = max(self.last.get(partition, 0), latest)
        first, second = self._words
        at = self._slot(ids)
        while len(ids):
            free = np.flatnonzero(first[at] == 0)
            first[at[free]], second[at[free]] = ids[free, 0], ids[free, 1]  # of several for one slot the last gets it
            on = (first[at] != ids[:, 0]) | (second[at] != ids[:, 1])
            ids, at = ids[on], (at[on] + 1) & self._last_slot

    def _slot(self, ids: Ids) -> Numbers:
        return ids[:, 1].astype(np.int64) & self._last_slot


def packed(event_ids: Iterable[str]) -> Ids:
    """Return ids as two words each, of which the first is not 0: that is how an empty slot looks."""
    joined = bytes.fromhex("".join(event_ids).replace("-", ""))
    ids = np.frombuffer(joined, np.uint64).reshape(-1, 2).copy()
    np.maximum(ids[:, 0], np.uint64(1), out=ids[:, 0])
    return ids
