"""The steps behind `dial-results quarantine`: grouping, trying, resubmitting, exporting."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ops.quarantining import masking
from ops.quarantining.kept import Kept, Place, Wanted, scan
from ops.quarantining.outcome import results
from ops.quarantining.settled import settle
from schemas import wire
from schemas.blu import UnreadableCallback
from schemas.wire import timestamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    import asyncpg

    from ops.publishing import Results
    from ops.quarantining.rules import Rule
    from ops.quarantining.settled import Settled
    from schemas.event import DialResult

_WINDOW_BODIES = 500
_WINDOW_BYTES = 8_000_000
_EXAMPLES = 20  # unreadable bodies that are named by their places

Options = dict[str, Any]


async def groups(options: Options, wanted: Wanted, done: Settled) -> list[dict[str, Any]]:
    """Group what is there by reason and shape, the largest group first; `open` is what is not resubmitted."""
    found: dict[str, dict[str, Any]] = {}
    async for kept in scan(options, wanted):
        start = {"reason": kept.reason, "shape": kept.shape, "bodies": 0, "open": 0, "merchants": Counter[str]()}
        group = found.setdefault(kept.shape_id, {"id": kept.shape_id, **start})
        at = timestamp(kept.received_at)
        group["bodies"] += 1
        group["open"] += kept not in done
        group["merchants"][kept.merchant] += 1
        group["first"], group["last"] = min(group.get("first", at), at), max(group.get("last", at), at)
        group.setdefault("example", f"{kept.partition}:{kept.offset}")
    return sorted(found.values(), key=lambda group: -group["bodies"])


@dataclass
class Tried:
    """What came of trying. `places` are those of the bodies that can be read."""

    readable: int = 0
    results: int = 0
    skipped: int = 0
    """Resubmitted before."""
    unreadable: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    places: set[Place] = field(default_factory=set)
    shown: list[dict[str, Any]] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Return the numbers."""
        unreadable = self.unreadable.total()
        return {
            "bodies": self.readable,
            "results": self.results,
            "skipped": self.skipped,
            "still_unreadable": unreadable,
        }

    def told(self) -> dict[str, Any]:
        """Return it for a person or a script."""
        return self.counts() | {"reasons": dict(self.unreadable), "unreadable_examples": self.examples}


async def attempt(options: Options, wanted: Wanted, done: Settled, rule: Rule | None, *, show: int = 0) -> Tried:
    """Decode what is meant and open, after the rule; keep the first `show` outcomes, masked. Nothing is published."""
    tried = Tried()
    async for kept in scan(options, wanted):
        if kept in done:
            tried.skipped += 1
            continue
        try:
            events = results(kept, rule)
        except UnreadableCallback as error:
            tried.unreadable[error.reason] += 1
            if len(tried.examples) < _EXAMPLES:
                tried.examples.append(f"{kept.partition}:{kept.offset}")
            continue
        tried.readable += 1
        tried.results += len(events)
        tried.places.add(kept.place)
        if len(tried.shown) < show:
            tried.shown.append({"place": f"{kept.partition}:{kept.offset}", "results": [_masked(e) for e in events]})
    return tried


def _masked(event: DialResult) -> dict[str, str]:
    said = {"event_id": event.event_id, "task_id": event.task_id, "received_at": timestamp(event.received_at)}
    return said | {"result": masking.masked(bytes(event.result))}


async def resubmit(
    options: Options, tried: Tried, rule: Rule | None, topic: Results, connection: asyncpg.Connection, run_id: str
) -> AsyncIterator[Counter[str]]:
    """Publish what `tried` found readable, and note it, window by window; yield the counts so far after each.

    A body is noted after Kafka has its results: killed in between, it is published again by the next run, with the
    same event ids. Those too large for Kafka are counted, and stay open.
    """
    counts: Counter[str] = Counter(published=0, results=0, too_large=0)
    async for window in _windows(options, tried.places):
        became = [(kept, results(kept, rule)) for kept in window]
        records = [wire.encode(event) for _, events in became for event in events]
        owners = [kept.place for kept, events in became for _ in events]
        refused = {owners[place] for place in await topic.send(records)}
        good = [(kept, [event.event_id for event in events]) for kept, events in became if kept.place not in refused]
        await settle(connection, good, run_id)
        counts["published"] += len(good)
        counts["results"] += sum(len(ids) for _, ids in good)
        counts["too_large"] += len(refused)
        yield counts


async def _windows(options: Options, places: set[Place]) -> AsyncIterator[list[Kept]]:
    window: list[Kept] = []
    async for kept in scan(options, Wanted()):
        if kept.place not in places:
            continue
        window.append(kept)
        if len(window) >= _WINDOW_BODIES or sum(len(one.body) for one in window) >= _WINDOW_BYTES:
            yield window
            window = []
    if window:
        yield window


def write(folder: Path, kept: Kept) -> Path:
    """Write the bytes that came to a file of their own, mode 0600; one that is there is left alone.

    Raises:
        OSError: it is there already, or cannot be written.
    """
    path = folder / f"{kept.partition}-{kept.offset}.body"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(kept.body)
    return path


def described(kept: Kept, done: Settled) -> Mapping[str, Any]:
    """Return one body's headers and its masked content."""
    return {
        "place": f"{kept.partition}:{kept.offset}",
        "merchant": kept.merchant,
        "reason": kept.reason,
        "record_index": kept.index,
        "received_at": timestamp(kept.received_at),
        "bytes": len(kept.body),
        "resubmitted": kept in done,
        "id": kept.shape_id,
        "masked": masking.masked(kept.body),
    }
