"""What of a batch is still to be written, and in which of the two ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deltalake.exceptions import CommitFailedError

from consumers.sink import SinkUnavailable
from schemas.event import RECONCILE
from schemas.topics import DIAL_RESULTS

from .memory import Memory
from .rows import microseconds, row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumers.sink import Delivery
    from schemas.merchants import Merchant

    from .lake import Lake
    from .settings import Settings

_ATTEMPTS = 10
_Row = tuple[Any, ...]


class Writing:
    """Blocks: one call at a time, in a thread."""

    def __init__(self, lake: Lake, settings: Settings, merchants: Mapping[str, Merchant]) -> None:
        self._lake = lake
        self._epoch = settings.epoch
        self._key = settings.pseudonym_key.get_secret_value().encode()
        self._merchants = merchants
        self._memory = Memory(0)
        self._mine: dict[str, int] = {}
        """App id to the version that this process wrote, or read when it loaded the memory."""

    def write(self, deliveries: Sequence[Delivery]) -> None:
        """Bring the batch into the table; whoever else writes the same gets in between, or not at all.

        Raises:
            SinkUnavailable: others were faster every time.
            DeltaError, OSError: the storage is away.
        """
        for _ in range(_ATTEMPTS):
            try:
                if self._attempt(deliveries):
                    self._lake.tidy()
                    return
            except CommitFailedError:
                self._mine.clear()  # somebody wrote what we were about to: the memory may lack it
        raise SinkUnavailable("commit-conflict", retry_after_s=1.0)

    def _attempt(self, deliveries: Sequence[Delivery]) -> bool:
        """Return whether all is done; False after a merge, whose rows the next attempt finds in the memory."""
        self._lake.refresh()
        upcoming = self._upcoming(deliveries)
        self._recall(upcoming)
        appended, merged = self._plan(deliveries)
        locks = self._locks(deliveries)
        if merged:
            self._lake.merge(merged, locks)
            self._remember(merged)
            return False
        advanced = {app_id: version for app_id, version in upcoming.items() if version > self._lake.committed(app_id)}
        if appended or advanced:
            self._lake.append(appended, advanced | locks)
        self._mine |= advanced
        self._remember(appended)
        return True

    def _plan(self, deliveries: Sequence[Delivery]) -> tuple[list[_Row], list[_Row]]:
        """Return the rows to append and the rows to merge; of equal ids the first."""
        appended: dict[str, _Row] = {}
        merged: dict[str, _Row] = {}
        for one in deliveries:
            event_id = one.event.event_id
            if self._is_done(one) or event_id in appended or event_id in merged or event_id in self._memory:
                continue
            plain = one.replay_id is None and one.event.source != RECONCILE
            sure = plain and self._memory.covers(microseconds(one.event.received_at))
            (appended if sure else merged)[event_id] = row(one.event, self._merchants, self._key)
        return list(appended.values()), list(merged.values())

    def _is_done(self, one: Delivery) -> bool:
        """Tell whether its offset is in the table, or (of a replayed one) whether the live record is still to come."""
        if one.offset < self._lake.committed(self._app_id(one.topic, one.partition)):
            return True
        if one.replay_id is None or one.original is None:
            return False
        partition, offset = one.original
        return offset >= self._lake.committed(self._app_id(DIAL_RESULTS, partition))

    def _recall(self, upcoming: Mapping[str, int]) -> None:
        if any(self._mine.get(app_id) != self._lake.committed(app_id) for app_id in upcoming):
            self._memory = self._lake.recent()
            self._mine = {app_id: self._lake.committed(app_id) for app_id in self._mine.keys() | upcoming.keys()}

    def _upcoming(self, deliveries: Sequence[Delivery]) -> dict[str, int]:
        found: dict[str, int] = {}
        for one in deliveries:
            app_id = self._app_id(one.topic, one.partition)
            found[app_id] = max(found.get(app_id, 0), one.offset + 1)
        return found

    def _locks(self, deliveries: Sequence[Delivery]) -> dict[str, int]:
        """Of two commits with a partition in common, made from the same version of the table, only one succeeds."""
        touched = {one.partition for one in deliveries} | {one.original[0] for one in deliveries if one.original}
        return {f"{self._epoch}/lock/{partition}": 1 for partition in touched}

    def _remember(self, rows: Sequence[_Row]) -> None:
        self._memory.add((one[0], one[4]) for one in rows)

    def _app_id(self, topic: str, partition: int) -> str:
        return f"{self._epoch}/{topic}/{partition}"
