"""What the receiver counts, in plain numbers: the hot path counts four times a callback. `metrics.py` shows them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import msgspec

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class PublishCounts(msgspec.Struct):
    """What became of the journal's callbacks. A publisher that runs as a process of its own sends what it counted."""

    published: Counter[str] = msgspec.field(default_factory=Counter)
    decoded: int = 0
    quarantined: Counter[str] = msgspec.field(default_factory=Counter)
    """Callbacks, each once; with `decoded` and `empty` that is all of them."""
    quarantine_records: Counter[str] = msgspec.field(default_factory=Counter)
    restamped: int = 0
    empty: int = 0
    repeats: int = 0
    damaged: int = 0
    """Callbacks that could not be read back from the journal."""
    publish_failures: int = 0
    stalled_for: str = ""
    """Why nothing is delivered; empty while it is, or nothing was tried yet."""
    kafka_up: bool = False
    last_published_s: float = 0.0
    """Of the broker's last acknowledgement of a whole window, seconds since 1970; 0: none yet."""

    def add(self, more: PublishCounts) -> None:
        """Add what was counted elsewhere since it was last asked; what is so just now is taken over."""
        for name in _BY_KEY:
            getattr(self, name).update(getattr(more, name))
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(more, name))
        for name in _NOW:
            setattr(self, name, getattr(more, name))

    def taken(self) -> PublishCounts:
        """Return all that was counted, and count from nothing; what is so just now stays."""
        taken = msgspec.structs.replace(self)
        for name in _BY_KEY:
            setattr(self, name, Counter())
        for name in _SUMS:
            setattr(self, name, 0)
        return taken


_BY_KEY = ("published", "quarantined", "quarantine_records")
_SUMS = ("decoded", "restamped", "empty", "repeats", "damaged", "publish_failures")
_NOW = ("stalled_for", "kafka_up", "last_published_s")


@dataclass(slots=True)
class Traffic:
    """One merchant's callbacks since the start."""

    received: int = 0
    acknowledged: int = 0
    body_bytes: int = 0


@dataclass(slots=True)
class Latencies:
    """A histogram: how many took at most BOUNDS_S[i] seconds, and not BOUNDS_S[i - 1]; the last one took longer."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def observe(self, seconds: float) -> None:
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds


@dataclass(slots=True)
class Counts:
    """All since the start of the process. Keys are merchants' names or typed causes: few, and known beforehand."""

    # -- the way in
    traffic: defaultdict[str, Traffic] = field(default_factory=lambda: defaultdict(Traffic))
    refused: Counter[str] = field(default_factory=Counter)
    not_found: int = 0
    turned_away: Counter[str] = field(default_factory=Counter)
    """With a good token, but not by the door; counted in `not_found` too."""
    bad_requests: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    ack_waits_over: int = 0
    publishing: PublishCounts = field(default_factory=PublishCounts)
