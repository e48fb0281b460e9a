"""What of a batch is still to be written, and in which of the two ways."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deltalake.exceptions import CommitFailedError

from consumers.sink import Delivery, SinkUnavailable
from schemas import topics
from schemas.event import RECONCILE

from .memory import Memory, packed
from .recall import FEW, horizon_for, recall
from .rows import Rows, microseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from arro3.core import Table

    from schemas.merchants import Merchant

    from .lake import Lake
    from .settings import Settings

_ATTEMPTS = 10


_One = tuple[Delivery, int, bytes]
"""A delivery, when its event was received (microseconds), and its packed event id."""


@dataclass
class _Plan:
    """What is new. Of equal ids the first counts."""

    append: list[_One] = field(default_factory=list)
    merge: list[_One] = field(default_factory=list)


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
        received_at = [microseconds(one.event.received_at) for one in deliveries]
        ids = packed([one.event.event_id for one in deliveries])
        batch = list(zip(deliveries, received_at, ids, strict=True))
        merged: set[bytes] = set()
        for _ in range(_ATTEMPTS):
            try:
                if self._attempt(batch, merged):
                    return self._lake.version
            except CommitFailedError:  # somebody wrote the same partition since the refresh: look again
                continue
        raise SinkUnavailable("commit-conflict", retry_after_s=1.0)

    def _attempt(self, batch: Sequence[_One], merged: set[bytes]) -> bool:
        """Return whether all is done; False after a merge, which adds to `merged` what the next attempt passes over."""
        self._lake.refresh()
        locks = self._locks(batch)
        pending = self._pending(batch, merged)
        self._recall([(one, at) for one, at, _ in pending if _is_plain(one)], locks)
        plan = self._plan(pending)
        if plan.merge:
            committed = self._lake.merge(self._table(plan.merge), locks)
            self._remember(plan.merge, locks if committed else {})
            merged.update(event_id for _, _, event_id in plan.merge)
            return False
        offsets = self._offsets(batch)
        if plan.append or offsets:
            self._lake.append(self._table(plan.append), offsets | locks)
            self._remember(plan.append, locks)
        return True

    def _pending(self, batch: Sequence[_One], merged: set[bytes]) -> list[_One]:
        """Leave out what is in the table by its offset, and of the replayed what a live one will still bring."""
        done = {place: self._done(*place) for place in {(one.topic, one.partition) for one, _, _ in batch}}
        return [
            new
            for new in batch
            if (one := new[0]).offset >= done[one.topic, one.partition]
            and (one.replay_id is None or not self._comes_live(one))
            and new[2] not in merged
        ]

    def _comes_live(self, replayed: Delivery) -> bool:
        """Tell whether its original is done neither here nor in Kafka (an empty table is filled by replays)."""
        if replayed.original is None:
            return False
        partition, offset = replayed.original
        return offset >= max(self._done(topics.DIAL_RESULTS, partition), replayed.live_committed or 0)

    def _recall(self, plain: Sequence[tuple[Delivery, int]], locks: Mapping[str, int]) -> None:
        """Read the memory anew where others wrote since, and where too much of the batch is older than it reaches."""
        if not plain:
            return
        wanted_s = horizon_for([at for _, at in plain])
        strange = any(self._known.get(lock) != self._lake.committed(lock) for lock in locks)
        if strange or (wanted_s < self._asked_s and self._uncovered(plain) > FEW):
            self._known.clear()  # whatever happens meanwhile, a memory that was not read to its end is not believed
            self._memory = Memory(0, self._limit)  # the old one's room is needed for the new one
            self._memory = recall(self._lake, wanted_s, self._limit)
            self._asked_s = wanted_s
            every = self._known.keys() | locks | {self._lock(number) for number in range(topics.PARTITIONS)}
            self._known = {lock: self._lake.committed(lock) for lock in every}

    def _uncovered(self, plain: Sequence[tuple[Delivery, int]]) -> int:
        return sum(at < self._memory.covered_from(one.partition) for one, at in plain)

    def _plan(self, pending: Sequence[_One]) -> _Plan:
        plan, memory = _Plan(), self._memory
        covered_from = {
            partition: memory.covered_from(partition) for partition in {one.partition for one, _, _ in pending}
        }
        planned: set[bytes] = set()
        for new in pending:
            one, at, event_id = new
            if event_id in planned or event_id in memory:
                continue
            planned.add(event_id)
            sure = at >= covered_from[one.partition] and _is_plain(one)
            (plan.append if sure else plan.merge).append(new)
        return plan

    def _table(self, rows: Sequence[_One]) -> Table:
        return self._rows.table([one.event for one, _, _ in rows], [at for _, at, _ in rows])

    def _remember(self, written: Sequence[_One], locks: Mapping[str, int]) -> None:
        ids = [event_id for _, _, event_id in written]
        self._memory.add(ids, [at for _, at, _ in written], [one.partition for one, _, _ in written])
        # Where the memory lacked something before, it still does.
        self._known |= {lock: now for lock, now in locks.items() if self._known.get(lock) == now - 1}

    def _offsets(self, batch: Sequence[_One]) -> dict[str, int]:
        """Return the next offset of every partition of the batch, where the table does not have it yet."""
        last = {(one.topic, one.partition): one.offset for one, _, _ in batch}  # they come in order
        return {self._app_id(*place): at + 1 for place, at in last.items() if at >= self._done(*place)}

    def _locks(self, batch: Sequence[_One]) -> dict[str, int]:
        """Return for every partition the number of the commit to come: of two commits with one number one gets in."""
        touched = {one.partition for one, _, _ in batch} | {one.original[0] for one, _, _ in batch if one.original}
        return {self._lock(number): self._lake.committed(self._lock(number)) + 1 for number in touched}

    def _done(self, topic: str, partition: int) -> int:
        """Return the first offset that is not in the table."""
        return self._lake.committed(self._app_id(topic, partition))

    def _lock(self, partition: int) -> str:
        return f"{self._epoch}/lock/{partition}"

    def _app_id(self, topic: str, partition: int) -> str:
        return f"{self._epoch}/{topic}/{partition}"


def _is_plain(one: Delivery) -> bool:
    """Tell whether it comes straight from a callback: neither replayed, re-sent nor reconciled."""
    return one.replay_id is None and not one.resent and one.event.source != RECONCILE
