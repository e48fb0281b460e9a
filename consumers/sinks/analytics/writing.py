"""What of a batch is still to be written, and in which of the two ways."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from deltalake.exceptions import CommitFailedError

from consumers.sink import SinkUnavailable
from schemas import topics
from schemas.event import RECONCILE

from .memory import Memory
from .recall import FEW, horizon_for, recall
from .rows import microseconds, row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumers.sink import Delivery
    from schemas.merchants import Merchant

    from .lake import Lake
    from .settings import Settings

_ATTEMPTS = 10


class _New(NamedTuple):
    partition: int
    row: tuple[Any, ...]


@dataclass
class _Plan:
    """Event id to what is new. Of equal ids the first counts."""

    append: dict[str, _New] = field(default_factory=dict)
    merge: dict[str, _New] = field(default_factory=dict)


class Writing:
    """Blocks: one call at a time, in a thread."""

    def __init__(self, lake: Lake, settings: Settings, merchants: Mapping[str, Merchant]) -> None:
        self._lake = lake
        self._epoch = settings.epoch
        self._key = settings.pseudonym_key.get_secret_value().encode()
        self._limit = settings.memory_ids
        self._merchants = merchants
        self._memory = Memory(0, self._limit)
        self._asked_s = 0
        """The horizon that the memory was last read for: nothing older is to be had by reading it anew."""
        self._known: dict[str, int] = {}
        """Lock to its version in the table up to which the memory knows what was written under it."""

    def write(self, deliveries: Sequence[Delivery]) -> None:
        """Bring the batch into the table; whoever else writes the same gets in between, or not at all.

        Raises:
            SinkUnavailable: others were faster every time.
            DeltaError, OSError: the storage is away.
        """
        merged: set[str] = set()
        for _ in range(_ATTEMPTS):
            try:
                if self._attempt(deliveries, merged):
                    self._lake.tidy()
                    return
            except CommitFailedError:  # somebody wrote the same partition since the refresh: look again
                continue
        raise SinkUnavailable("commit-conflict", retry_after_s=1.0)

    def _attempt(self, deliveries: Sequence[Delivery], merged: set[str]) -> bool:
        """Return whether all is done; False after a merge, which adds to `merged` what the next attempt passes over."""
        self._lake.refresh()
        locks = self._locks(deliveries)
        pending = [one for one in deliveries if one.event.event_id not in merged and not self._is_done(one)]
        self._recall([one for one in pending if _is_plain(one)], locks)
        plan = self._plan(pending)
        if plan.merge:
            committed = self._lake.merge([new.row for new in plan.merge.values()], locks)
            self._remember(plan.merge, locks if committed else {})
            merged.update(plan.merge)
            return False
        offsets = self._offsets(deliveries)
        if plan.append or offsets:
            self._lake.append([new.row for new in plan.append.values()], offsets | locks)
            self._remember(plan.append, locks)
        return True

    def _is_done(self, one: Delivery) -> bool:
        """Tell whether its offset is in the table, or (of a replayed one) whether the live record is still to come."""
        if one.offset < self._lake.committed(self._app_id(one.topic, one.partition)):
            return True
        if one.replay_id is None or one.original is None:
            return False
        partition, offset = one.original
        return offset >= self._lake.committed(self._app_id(topics.DIAL_RESULTS, partition))

    def _recall(self, plain: Sequence[Delivery], locks: Mapping[str, int]) -> None:
        """Read the memory anew where others wrote since, and where too much of the batch is older than it reaches."""
        if not plain:
            return
        wanted_s = horizon_for([microseconds(one.event.received_at) for one in plain])
        strange = any(self._known.get(lock) != self._lake.committed(lock) for lock in locks)
        if strange or (wanted_s < self._asked_s and sum(not self._is_covered(one) for one in plain) > FEW):
            self._memory = recall(self._lake, wanted_s, self._limit)
            self._asked_s = wanted_s
            every = self._known.keys() | locks | {self._lock(number) for number in range(topics.PARTITIONS)}
            self._known = {lock: self._lake.committed(lock) for lock in every}

    def _plan(self, pending: Sequence[Delivery]) -> _Plan:
        plan = _Plan()
        for one in pending:
            event_id = one.event.event_id
            if event_id in plan.append or event_id in plan.merge or event_id in self._memory:
                continue
            sure = _is_plain(one) and self._is_covered(one)
            new = _New(one.partition, row(one.event, self._merchants, self._key))
            (plan.append if sure else plan.merge)[event_id] = new
        return plan

    def _is_covered(self, one: Delivery) -> bool:
        return self._memory.covers(one.partition, microseconds(one.event.received_at))

    def _remember(self, written: Mapping[str, _New], locks: Mapping[str, int]) -> None:
        for event_id, new in written.items():
            self._memory.add(event_id, new.row[4], new.partition)
        # Where the memory lacked something before, it still does.
        self._known |= {lock: now for lock, now in locks.items() if self._known.get(lock) == now - 1}

    def _offsets(self, deliveries: Sequence[Delivery]) -> dict[str, int]:
        """Return the next offset of every partition of the batch, where the table does not have it yet."""
        upcoming: dict[str, int] = {}
        for one in deliveries:
            app_id = self._app_id(one.topic, one.partition)
            upcoming[app_id] = max(upcoming.get(app_id, 0), one.offset + 1)
        return {app_id: offset for app_id, offset in upcoming.items() if offset > self._lake.committed(app_id)}

    def _locks(self, deliveries: Sequence[Delivery]) -> dict[str, int]:
        """Return for every partition the number of the commit to come: of two commits with one number one gets in."""
        touched = {one.partition for one in deliveries} | {one.original[0] for one in deliveries if one.original}
        return {self._lock(number): self._lake.committed(self._lock(number)) + 1 for number in touched}

    def _lock(self, partition: int) -> str:
        return f"{self._epoch}/lock/{partition}"

    def _app_id(self, topic: str, partition: int) -> str:
        return f"{self._epoch}/{topic}/{partition}"


def _is_plain(one: Delivery) -> bool:
    """Tell whether it comes straight from a callback: neither replayed, re-sent nor reconciled."""
    return one.replay_id is None and not one.resent and one.event.source != RECONCILE
