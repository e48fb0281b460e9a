"""Results into PostgreSQL: one row an event, exactly once by the primary key `event_id`. See docs/storage.md."""

from __future__ import annotations

from consumers.sink import Batching

from .settings import Settings
from .sink import StorageSink, connect, event_ids

# A commit costs a round trip and an fsync whatever it holds; 5,000 events spread that thin and are ready in 0.1 s.
BATCHING = Batching(max_events=5_000, max_bytes=8_000_000)


def database(settings: Settings) -> str:
    """Return the address of its database."""
    return settings.dsn.get_secret_value()


__all__ = ["BATCHING", "Settings", "StorageSink", "connect", "database", "event_ids"]
