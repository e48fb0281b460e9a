"""What of a batch is still to be written, and in which of the two ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from deltalake.exceptions import CommitFailedError

from consumers.sink import Delivery, SinkUnavailable
from schemas import topics

from .batch import Batch
from .memory import Memory
from .recall import FEW, horizon_for, recall
from .rows import Rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arro3.core import Table

    from schemas.merchants import Merchant

    from .batch import Place
    from .lake import Lake
    from .memory import Numbers
    from .settings import Settings

_ATTEMPTS = 10


class Writing:
    """Blocks: one call at a time, in a thread."""

    def __init__(self, lake: Lake, settings: Settings, merchants: Mapping[str, Merchant]) -> None:
        self._lake = lake
        self._epoch = settings.epoch
        self._rows = Rows(merchants, settings.pseudonym_key.get_secret_value().encode())
        self._limit = settings.memory_ids
        self._memory = Memory(0, self._limit)
        self._asked_s = 0
        """The horizon that the memory was last read for: nothing older is to be had by reading it anew."""
        self._known: dict[str, int] = {}
        """Lock to its version in the table up to which the memory knows what was written under it."""

    def write(self, deliveries: Sequence[Delivery]) -> int:
        """Bring the batch into the table; whoever else writes the same gets in between, or not at all.

        Returns the table's version afterwards.

        Raises:
            InvalidRecord: an event cannot be decoded; nothing of its kind is in the table.
            SinkUnavailable: others were faster every time.
            DeltaError, OSError: the storage is away.
        """
        batch, merged = Batch.of(deliveries), set[str]()
        for _ in range(_ATTEMPTS):
            try:
                if self._attempt(batch, merged):
                    return self._lake.version
            except CommitFailedError:  # somebody wrote the same partition since the refresh: look again
                continue
        raise SinkUnavailable("commit-conflict", retry_after_s=1.0)

    def _attempt(self, batch: Batch, merged: set[str]) -> bool:
        """Return whether all is done; False after a merge, which adds to `merged` what the next attempt passes over."""
        self._lake.refresh()
        last = batch.last_offsets()
        locks = self._locks(batch, last)
        pending = self._pending(batch, last, merged)
        self._recall(pending.where(pending.plain), locks)
        append, merge = self._plan(pending)
        if len(merge):
            committed = self._lake.merge(self._table(merge), locks)
            self._remember(merge, locks if committed else {})
            merged.update(merge.event_ids)
            return False
        offsets = {self._app_id(*place): at + 1 for place, at in last.items() if at >= self._done(*place)}
        if len(append) or offsets:
            self._lake.append(self._table(append), offsets | locks)
            self._remember(append, locks)
        return True

    def _pending(self, batch: Batch, places: Mapping[Place, int], merged: set[str]) -> Batch:
        """Leave out what is in the table by its offset."""
        mask = batch.from_offsets({place: self._done(*place) for place in places})
        if merged:
            mask &= np.array([event_id not in merged for event_id in batch.event_ids], np.bool_)
        return batch.where(mask)

    def _recall(self, plain: Batch, locks: Mapping[str, int]) -> None:
        """Read the memory anew where others wrote since, and where too much of the batch is older than it reaches."""
        if not len(plain):
            return
        strange = any(self._known.get(lock) != self._lake.committed(lock) for lock in locks)
        if not strange and (plain.received_at < self._covered_from(plain)).sum() <= FEW:
            return
        wanted_s = horizon_for(plain.received_at)
        if strange or wanted_s < self._asked_s:
            self._known.clear()  # whatever happens meanwhile, a memory that was not read to its end is not believed
            self._memory = Memory(0, self._limit)  # the old one's room is needed for the new one
            self._memory = recall(self._lake, wanted_s, self._limit)
            self._asked_s = wanted_s
            every = self._known.keys() | locks | {self._lock(number) for number in range(topics.PARTITIONS)}
            self._known = {lock: self._lake.committed(lock) for lock in every}

    def _covered_from(self, batch: Batch) -> Numbers:
        partitions, places = np.unique(batch.partitions, return_inverse=True)
        limits = [self._memory.covered_from(partition) for partition in partitions.tolist()]
        return np.array(limits, np.int64)[places]

    def _plan(self, pending: Batch) -> tuple[Batch, Batch]:
        """Return what is new: what is to be appended, and what merged. Of equal ids the first counts."""
        new = pending.where(pending.firsts() & ~self._memory.knows(pending.ids))
        sure = new.plain & (new.received_at >= self._covered_from(new))
        return new.where(sure), new.where(~sure)

    def _table(self, batch: Batch) -> Table:
        return self._rows.table([one.event for one in batch.deliveries], batch.received_at)

    def _remember(self, written: Batch, locks: Mapping[str, int]) -> None:
        self._memory.add(written.ids, written.received_at, written.partitions)
        # Where the memory lacked something before, it still does.
        self._known |= {lock: now for lock, now in locks.items() if self._known.get(lock) == now - 1}

    def _locks(self, batch: Batch, places: Mapping[Place, int]) -> dict[str, int]:
        """Return for every partition the number of the commit to come: of two commits with one number one gets in."""
        touched = {partition for _, partition in places}
        touched |= {one.original[0] for one in batch.deliveries if one.original}
        return {self._lock(number): self._lake.committed(self._lock(number)) + 1 for number in touched}

    def _done(self, topic: str, partition: int) -> int:
        """Return the first offset that is not in the table."""
        return self._lake.committed(self._app_id(topic, partition))

    def _lock(self, partition: int) -> str:
        return f"{self._epoch}/lock/{partition}"

    def _app_id(self, topic: str, partition: int) -> str:
        return f"{self._epoch}/{topic}/{partition}"
