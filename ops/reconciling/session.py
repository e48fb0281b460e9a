"""One reconciliation: ask Blu task by task, compare, publish what never arrived."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from ops import audit
from ops.blu.client import BluAway, BluClient, BluRefused, Pace
from ops.ending import NotNow
from ops.publishing import results_topic
from ops.reconciling import held
from ops.reconciling.compare import Compared, Comparison
from schemas import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    import asyncpg

    from schemas.event import DialResult
    from schemas.merchants import Query

_AT_ONCE = 1_000


@dataclass(frozen=True)
class Asked:
    """What is to be reconciled. `settle_s`: how long storage may take to catch up with the topic; 0: nobody looks."""

    merchant: str
    query: Query
    key: str = field(repr=False)
    tasks: tuple[str, ...] = ()
    since: datetime | None = None
    page_size: int = 10
    rate: float = 25.0
    settle_s: float = 60.0

    def for_audit(self) -> dict[str, Any]:
        """Return it for `ops.audit`."""
        return {"merchant": self.merchant, "tasks_named": len(self.tasks), "since": self.since}


@dataclass
class Found:
    """What came of it. `refused` says of which tasks Blu gave no results, and why."""

    merchant: str
    compared: list[Compared] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    published: int = 0
    arrived: int = 0
    """Missing at first, held by the time of publishing."""
    too_large: int = 0

    def totals(self) -> dict[str, int]:
        """Add all tasks up."""
        names = ("same", "missing", "different", "extra", "unreadable")
        counts = [one.counts() for one in self.compared]
        sums = {name: sum(count[name] for count in counts) for name in names}
        done = {"published": self.published, "arrived": self.arrived}
        return {"tasks": len(self.compared), **sums, **done, "tasks_refused": len(self.refused)}

    @property
    def good(self) -> bool:
        """Whether nothing is left: every result of Blu's is in storage, or on its way."""
        totals = self.totals()
        left = totals["missing"] - self.published - self.arrived
        return not (left or totals["different"] or totals["unreadable"] or self.refused)


async def look(
    connection: asyncpg.Connection, options: Mapping[str, Any], asked: Asked, told: Callable[[str], None]
) -> Found:
    """Ask and compare; nothing is published. `told` is called with a line now and then.

    Raises:
        NotNow: storage is behind the topic, or Blu does not answer.
    """
    if asked.settle_s:
        await held.caught_up(options, asked.settle_s)
    since = await held.tasks_since(connection, asked.merchant, asked.since) if asked.since else []
    tasks = list(dict.fromkeys((*asked.tasks, *since)))
    found = Found(asked.merchant)
    async with aiohttp.ClientSession() as session:
        client = BluClient(session, asked.query, asked.key, Pace(asked.rate), page_size=asked.page_size)
        for number, task_id in enumerate(tasks, 1):
            await _look_at(connection, client, asked, task_id, found)
            told(f"{number:,} of {len(tasks):,} tasks")
    return found


async def _look_at(connection: asyncpg.Connection, client: BluClient, asked: Asked, task_id: str, found: Found) -> None:
    held_now = await held.of_task(connection, asked.merchant, task_id)
    comparison = Comparison(asked.merchant, task_id, held_now, asked.query.only_in_query)
    try:
        async for records in client.pages(task_id):
            comparison.take(records)
    except BluAway as away:
        raise NotNow(f"Blu does not answer: {away}; nothing was published") from None
    except BluRefused as refused:
        found.refused[task_id] = f"{refused}"
        return
    found.compared.append(comparison.result())


async def publish(connection: asyncpg.Connection, options: Mapping[str, Any], asked: Asked, found: Found) -> None:
    """Publish what is missing, unless storage holds something of that record by now. Audited before.

    Raises:
        NotNow, KafkaError: as `results_topic` and its `send`; it may be done again.
    """
    async with results_topic(options) as topic:
        await audit.record(connection, "reconcile", asked.for_audit(), found.totals())
        for compared in found.compared:
            for events in _portions(compared.missing):
                wanted = await _still_missing(connection, asked.merchant, compared.task_id, events)
                found.arrived += len(events) - len(wanted)
                too_large = await topic.send([wire.encode(event) for event in wanted])
                found.too_large += len(too_large)
                found.published += len(wanted) - len(too_large)


def _portions(events: Sequence[DialResult]) -> Iterable[Sequence[DialResult]]:
    """Cut into portions, the results of one record never into two: the first would keep the others from going."""
    by_record = sorted(events, key=lambda event: event.record_id)
    portion: list[DialResult] = []
    for event in by_record:
        if len(portion) >= _AT_ONCE and event.record_id != portion[-1].record_id:
            yield portion
            portion = []
        portion.append(event)
    if portion:
        yield portion


async def _still_missing(
    connection: asyncpg.Connection, merchant: str, task_id: str, events: Sequence[DialResult]
) -> list[DialResult]:
    now_held = await held.records_held(connection, merchant, task_id, {event.record_id for event in events})
    return [event for event in events if event.record_id not in now_held]
