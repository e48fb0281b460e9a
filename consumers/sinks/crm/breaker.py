"""The circuit breaker: while a CRM only fails, it is left alone but for one call now and then."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from .metrics import BREAKER_OPEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = structlog.get_logger()

_PROBED_S = 1.0  # for those who come while the probe is under way


class Breaker:
    """Opens after `failures` failed calls in a row, for `rest_s`; then lets one call through as a probe."""

    def __init__(self, failures: int, rest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._rest_s = rest_s
        self._clock = clock
        self._failures = 0
        self._open_until = float("-inf")
        self._probing = False
        BREAKER_OPEN.set(0)

    def wait_s(self) -> float:
        """Return seconds until a call may be made, 0 if one may go now."""
        if self._failures < self._limit:
            return 0.0
        return max(self._open_until - self._clock(), _PROBED_S if self._probing else 0.0)

    @contextmanager
    def call(self) -> Iterator[Callable[[bool], None]]:
        """Make a call, which `wait_s` allowed; say by the function given whether the CRM answered."""
        self._probing = self._failures >= self._limit
        try:
            yield self._note
        finally:
            self._probing = False

    def _note(self, answered: bool) -> None:
        if answered:
            if self._failures >= self._limit:
                log.info("crm_breaker_closed")
            self._failures = 0
            BREAKER_OPEN.set(0)
            return
        self._failures += 1
        if self._failures >= self._limit:
            if self._failures == self._limit:
                log.warning("crm_breaker_open", failures=self._failures, rest_s=self._rest_s)
            self._open_until = self._clock() + self._rest_s
            BREAKER_OPEN.set(1)
