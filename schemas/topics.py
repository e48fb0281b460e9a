"""Topics, consumer groups, header names and the partition of a key: names that others rely on."""

from __future__ import annotations

from dataclasses import dataclass, field

from .murmur import murmur2

DIAL_RESULTS = "dial-results"
QUARANTINE = "dial-results.quarantine"
CONSUMERS = ("storage", "analytics", "crm")

PARTITIONS = 12
SIDE_PARTITIONS = 3  # quarantine and dead letters: few records, order does not matter
RETENTION_MS = 28 * 24 * 60 * 60 * 1000  # under 30 days, so that an erasure is met by expiry
MAX_RECORD_BYTES = 2 * 1024 * 1024  # a body of 1 MB, escaped and wrapped, fits

# Headers of a replayed record or a dead letter
REPLAY_ID = "replay-id"
ORIGINAL_TOPIC = "original-topic"
ORIGINAL_PARTITION = "original-partition"
ORIGINAL_OFFSET = "original-offset"
RESENT = "re-sent"
"""On a record that an operator sent again out of a journal: when, as `receivedAt` is written."""
# Headers of a quarantined body
REASON = "reason"
MERCHANT = "merchant"
RECEIVED_AT = "received-at"
RECORD_INDEX = "record-index"
# Further headers of a dead letter
CONSUMER = "consumer"
ATTEMPTS = "attempts"
VERSION = "version"


def erased() -> str:
    """Name the compacted topic of contacts that every consumer erases, and leaves out from then on."""
    return f"{DIAL_RESULTS}.erased"


def dead_letter(consumer: str) -> str:
    """Name the topic of what this consumer's sink refused for good."""
    return f"{DIAL_RESULTS}.{consumer}.dead-letter"


def replay(consumer: str) -> str:
    """Name the topic through which one consumer, and no other, is given records again."""
    return f"{DIAL_RESULTS}.{consumer}.replay"


def group(consumer: str) -> str:
    """Name the consumer group."""
    return f"{DIAL_RESULTS}.{consumer}"


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key, as the Java client's default partitioner has it (murmur2)."""
    return hash_of(key) % partitions


def hash_of(key: bytes) -> int:
    """Return what `partition_of` divides: for those who ask more than once."""
    return murmur2(key) & 0x7FFFFFFF


@dataclass(frozen=True)
class TopicSpec:
    """A topic as it should be. `config` holds the broker's own setting names."""

    name: str
    partitions: int
    replication_factor: int
    config: dict[str, str] = field(default_factory=dict)


def topic_specs(replication_factor: int, consumers: tuple[str, ...] = CONSUMERS) -> list[TopicSpec]:
    """List all topics; with three replicas or more a write needs two of them."""
    shared = {"max.message.bytes": str(MAX_RECORD_BYTES), "min.insync.replicas": str(min(2, replication_factor))}
    kept = shared | {"retention.ms": str(RETENTION_MS)}
    compacted = shared | {"cleanup.policy": "compact"}
    return [
        TopicSpec(DIAL_RESULTS, PARTITIONS, replication_factor, kept),
        TopicSpec(QUARANTINE, SIDE_PARTITIONS, replication_factor, kept),
        TopicSpec(erased(), 1, replication_factor, compacted),
        *(TopicSpec(dead_letter(name), SIDE_PARTITIONS, replication_factor, kept) for name in consumers),
        # As many partitions as the live topic: replay and live partition N go to the same member.
        *(TopicSpec(replay(name), PARTITIONS, replication_factor, kept) for name in consumers),
    ]
