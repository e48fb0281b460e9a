"""What the consumer knows about itself: read by the admin port and the watchdog."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Status:
    """State of one consumer. Counters live in `metrics.py`."""

    joined: bool = False
    """A member of its group, with partitions handed out."""
    sink_available: bool = False
    sink_reason: str = "not connected yet"
    stopping: bool = False
    live_lag: int | None = None
    """Records behind the ends of the live partitions; None: not known."""
    replay_lag: int | None = None
    waiting: int | None = None
    """Records of both kinds that are neither done nor held back as rejects; None: not known."""
    expired: int = 0
    """Records that Kafka's retention deleted before they were done: lost for this sink."""
    steps: int = 0
    """Grows with everything that moves."""

    def reasons_not_ready(self) -> list[str]:
        """Return typed reasons, none where it is ready."""
        reasons = {
            "not-joined": not self.joined,
            "sink-unavailable": not self.sink_available,
            "stopping": self.stopping,
            "records-expired": self.expired > 0,
        }
        return [reason for reason, holds in reasons.items() if holds]
