"""One task: Blu's records on one side, storage's rows on the other."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schemas import exact
from schemas.blu import UnreadableCallback, decode_callback
from schemas.event import RECONCILE, DialResult, dial_result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ops.reconciling.held import Held


@dataclass
class Compared:
    """What one task came to. `missing` are events to publish; the others name events by id.

    `different` are Blu's results that storage does not hold, of records of which it holds something else. `extra` are
    rows of which Blu knows nothing, of records that are not among the different ones.
    """

    task_id: str
    same: int = 0
    missing: list[DialResult] = field(default_factory=list)
    different: list[tuple[str, list[str]]] = field(default_factory=list)
    """Blu's event id, and those that storage holds of that record."""
    extra: list[str] = field(default_factory=list)
    unreadable: int = 0
    """Records of Blu's that no callback could bring either: without an id, say."""

    def counts(self) -> dict[str, int]:
        """Return the numbers."""
        return {
            "same": self.same,
            "missing": len(self.missing),
            "different": len(self.different),
            "extra": len(self.extra),
            "unreadable": self.unreadable,
        }


class Comparison:
    """Takes Blu's pages as they come; only what is missing is kept whole."""

    def __init__(self, merchant: str, task_id: str, held: Held, only_in_query: Sequence[str]) -> None:
        self._merchant, self._held, self._only_in_query = merchant, held, only_in_query
        self._seen: set[str] = set()
        self._differing: set[str] = set()
        self._compared = Compared(task_id)

    def take(self, records: Sequence[Any]) -> None:
        """Compare one page. A result that comes again, because pages shifted, counts once."""
        for event in self._events(records):
            if event.event_id not in self._seen:
                self._seen.add(event.event_id)
                self._place(event)

    def result(self) -> Compared:
        """Return what it came to, once all pages are taken."""
        self._compared.extra = [
            event_id
            for event_id, record_id in self._held.events.items()
            if event_id not in self._seen and record_id not in self._differing
        ]
        return self._compared

    def _place(self, event: DialResult) -> None:
        if event.event_id in self._held.events:
            self._compared.same += 1
        elif held := self._held.records.get(event.record_id):
            self._compared.different.append((event.event_id, held))
            self._differing.add(event.record_id)
        else:
            self._compared.missing.append(event)

    def _events(self, records: Sequence[Any]) -> Iterator[DialResult]:
        """Read records as if they had come in a callback: the one way in which a result gets its id."""
        body = {"taskId": self._compared.task_id, "records": [self._as_called_back(record) for record in records]}
        try:
            read = decode_callback(exact.canonical(body))
        except UnreadableCallback:
            yield from self._one_by_one(records)
            return
        self._compared.unreadable += len(read.unreadable)
        now_ms = time.time_ns() // 1_000_000
        for record in read.records:
            yield dial_result(self._merchant, self._compared.task_id, record, now_ms, source=RECONCILE)

    def _one_by_one(self, records: Sequence[Any]) -> Iterator[DialResult]:
        """Of a page that cannot be read as a whole."""
        if len(records) == 1:
            self._compared.unreadable += 1
            return
        for record in records:
            yield from self._events([record])

    def _as_called_back(self, record: Any) -> Any:  # noqa: ANN401  # whatever Blu has in its list
        if not isinstance(record, dict):
            return record
        return {name: value for name, value in record.items() if name not in self._only_in_query}
