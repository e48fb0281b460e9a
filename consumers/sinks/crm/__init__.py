"""Each contact of a CRM shows its newest result; every event has one effect at most. See docs/crm.md."""

from __future__ import annotations

from consumers.sink import Batching

from .effects import event_ids
from .preview import preview
from .settings import Settings
from .sink import CrmSink, connect

# A CRM is paid by the call, of up to 100 results: a quarter of a second gathers them, and makes at most four small
# batches a second, far below HubSpot's limit. 1,000 events are ten calls, which fit any limit's window.
BATCHING = Batching(max_events=1_000, max_bytes=8_000_000, linger_s=0.25)


def database(settings: Settings) -> str:
    """Return the address of the ledger's database."""
    return settings.ledger_dsn.get_secret_value()


__all__ = ["BATCHING", "CrmSink", "Settings", "connect", "database", "event_ids", "preview"]
