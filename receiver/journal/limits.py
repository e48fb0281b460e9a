"""The journal's bounds."""

from dataclasses import dataclass

_MiB = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalLimits:
    """Sizes in bytes, times in seconds. A default argues for itself in the comment beside it."""

    segment_bytes: int = 64 * _MiB  # about 2 s of the fastest intake; a start scans one of these in 0.1 s
    segment_age_s: float = 300.0  # a quiet receiver's callbacks leave the disk some 20 minutes after they are published
    quota_bytes: int = 10_240 * _MiB  # 50 callbacks a second of 10 KB, for 6 hours without Kafka
    quota_share: float = 0.9  # of the quota; Blu's own retries are the buffer from there on
    disk_share: float = 0.9  # of the disk, as `df` counts it: the rest of the machine has to live too
    group_bytes: int = 4 * _MiB  # what one fdatasync may carry: 10 ms on a disk of 400 MB/s
    waiting_bytes: int = 32 * _MiB  # what may wait in memory for the writer
    commit_budget_s: float = 2.0  # a sender that waits longer is better served by a 503 and its own retry
    insurance_s: float = 900.0  # published segments outlive a broker that lost its disk by this long

    def __post_init__(self) -> None:
        """Raise ValueError for bounds that cannot work."""
        counts = (self.segment_bytes, self.quota_bytes, self.group_bytes, self.waiting_bytes)
        if min(counts) <= 0 or min(self.segment_age_s, self.commit_budget_s) <= 0 or self.insurance_s < 0:
            raise ValueError("the journal's sizes and times must be greater than nothing")
        if not (0 < self.quota_share <= 1 and 0 < self.disk_share <= 1):
            raise ValueError("the journal's shares of quota and disk lie between 0 and 1")
