"""The CRM sink's own numbers, under the names of `schemas/metrics.py`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from consumers.metrics import SINKS
from schemas import metrics as names

_CONSUMER = "crm"

BREAKER_OPEN = Gauge(
    names.CRM_BREAKER_OPEN, "1 while calls are held back since the CRM only fails", ("consumer",), registry=SINKS
).labels(_CONSUMER)
UNAUTHORISED = Gauge(
    names.CRM_UNAUTHORISED,
    "1 while the CRM refuses our token: an operator has to mend it",
    ("consumer",),
    registry=SINKS,
).labels(_CONSUMER)
_CALLS = Counter(names.CRM_CALLS, "Calls of the CRM by what came back", ("consumer", "answer"), registry=SINKS)
GAVE_UP = Counter(
    names.CRM_GAVE_UP,
    "Results dead-lettered since the CRM said 'try again' for too long",
    ("consumer",),
    registry=SINKS,
).labels(_CONSUMER)


def count_call(status: int) -> None:
    """Count one call by its status' class; 0 is no answer."""
    answer = "none" if status == 0 else f"{status // 100}xx"
    _CALLS.labels(_CONSUMER, answer).inc()
