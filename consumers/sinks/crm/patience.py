"""Ends what would be tried for ever: one item to which the CRM says "try again" while it takes all others."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from .metrics import GAVE_UP
from .outcome import Outcome, Reject, Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .mapping import Item

log = structlog.get_logger()


class Patience:
    """Rejects an item that was named with a Retry for longer than `limit_s`, counted from the first such answer.

    An outage never counts: there no answer names an item. The count is this process's; a restart begins anew.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._since: dict[str, float] = {}

    def judge(self, items: Sequence[Item], outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Return the outcomes, with a Reject where it has been too long. Forgets all that are not among the items."""
        ids = {one.event_id for one in items}
        self._since = {key: since for key, since in self._since.items() if key in ids}
        return [self._one(item, outcome) for item, outcome in zip(items, outcomes, strict=True)]

    def _one(self, item: Item, outcome: Outcome) -> Outcome:
        if not isinstance(outcome, Retry):
            self._since.pop(item.event_id, None)
            return outcome
        if not outcome.named:
            return outcome
        now = self._clock()
        if now - self._since.setdefault(item.event_id, now) <= self._limit_s:
            return outcome
        log.warning("crm_gave_up", reason=outcome.reason, after_s=self._limit_s)
        GAVE_UP.inc()
        return Reject(f"{outcome.reason}-too-long")
