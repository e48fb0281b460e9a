"""A day of results that come late, twice, replayed and reconciled, and what the rule *newest* says of it in the end."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.blu import BluRecord
from schemas.event import CALLBACK, RECONCILE, DialResult, dial_result
from schemas.exact import canonical
from schemas.mapping import mapped, newest_key

RETRIES = 5
RETRY_S = 300.0  # Blu's: 25 minutes in all
_BEGIN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=5)


@dataclass(frozen=True)
class Step:
    """What happens next: an event is published, or replayed if it was published before."""

    event: DialResult
    replayed: bool = False


class Day:
    """Made up from a seed: contacts with several results, half of them with a call time."""

    def __init__(self, seed: int, contacts: int = 30, results: int = 4) -> None:
        self._chance = random.Random(seed)
        self._contacts = contacts
        callbacks = [self._callback(number) for number in range(contacts * results)]
        reconciled = [self._reconciled(number) for number in range(contacts)]
        self.reconciled = [copy for copies in reconciled for copy in copies]
        self.received = sorted((copy for copies in callbacks for copy in copies), key=_received_at)

    def steps(self) -> list[Step]:
        """Callbacks as they were received, and anywhere among them what was reconciled, and replays of what came."""
        steps = [Step(event) for event in self.received]
        for event in self.reconciled:
            steps.insert(self._chance.randrange(len(steps) + 1), Step(event))
        for _ in range(len(steps) // 4):
            place = self._chance.randrange(1, len(steps) + 1)
            original = self._chance.choice(steps[:place]).event
            steps.insert(place, Step(original, replayed=True))
        return steps

    def _callback(self, number: int) -> list[DialResult]:
        """Make a result as often as Blu sends it until it sees the answer."""
        received_s = self._chance.uniform(0, 3 * 3_600)
        retries = self._chance.randint(1, RETRIES) if self._chance.random() < 0.4 else 0
        record = self._record(number, self._chance.uniform(-7_200, 3 * 3_600))
        return [self._event(record, received_s + again * RETRY_S, CALLBACK) for again in range(retries + 1)]

    def _reconciled(self, number: int) -> list[DialResult]:
        """Make what the comparison with Blu found missing: most without a newer call, and here and there with one."""
        record = self._record(1_000_000 + number, self._chance.uniform(-7_200, 4 * 3_600))
        return [self._event(record, self._chance.uniform(0, 4 * 3_600), RECONCILE)]

    def _record(self, number: int, called_s: float) -> dict[str, Any]:
        record = {"id": f"c{number % self._contacts}", "number": number}
        if self._chance.random() < 0.5:
            record["callTime"] = f"{_BEGIN + timedelta(seconds=int(called_s)):%Y-%m-%d %H:%M:%S}"
        return record

    def _event(self, record: dict[str, Any], received_s: float, source: str) -> DialResult:
        received_ms = round((_BEGIN.timestamp() + received_s) * 1_000)
        content = BluRecord(0, record["id"], canonical(record))
        return dial_result("demo", f"t{record['number'] % 7}", content, received_ms, source=source)


def newest(events: Iterable[DialResult]) -> dict[str, str]:
    """Return contact to event id, by the rule of `schemas.mapping`, applied to the events as they were received."""
    first_seen: dict[str, DialResult] = {}
    for event in sorted(events, key=_received_at):
        first_seen.setdefault(event.event_id, event)
    found: dict[str, tuple[int, datetime, str]] = {}
    for event in first_seen.values():
        key = newest_key(event, mapped(event.record(), None).called_at)
        found[event.record_id] = max(key, found.get(event.record_id, key))
    return {contact: key[-1] for contact, key in found.items()}


def _received_at(event: DialResult) -> datetime:
    return event.received_at
