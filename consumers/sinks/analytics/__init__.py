"""Results into a Delta Lake table: one row an event, no name and no number in it. See docs/analytics.md."""

from __future__ import annotations

from consumers.sink import Batching

from .settings import Settings
from .sink import AnalyticsSink, connect, event_ids

# A commit makes a file for each day it touches: few large ones read faster, and a second's delay hurts no dashboard.
# 20,000 events a batch were no faster (27,000/s either way on a busy machine) and took 450 MB instead of 310.
BATCHING = Batching(max_events=10_000, linger_s=1.0)

__all__ = ["BATCHING", "AnalyticsSink", "Settings", "connect", "event_ids"]
