"""The dry run: what would be sent, contact by contact, with personal data masked. Nothing is written anywhere."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import orjson

from .adapter import DIALECTS
from .ledger import DISCONNECTED, Ledger, open_ledger, unavailable
from .mapping import Item, item
from .plan import first_seen, plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from consumers.sink import Delivery
    from schemas.merchants import Merchant

    from .adapter import Dialect
    from .plan import Sending
    from .settings import Settings

# Of our fields those that say nothing of a person; any other value is masked, also one of a field that we do not know.
_PLAIN = {"event_id", "merchant", "task_id", "source", "received_at", "called_at", "duration_s", "conclusion"}


class CrmPreview:
    """Plans as the sink does, by a ledger that it only reads."""

    def __init__(self, ledger: Ledger, dialect: Dialect, merchants: Mapping[str, Merchant], settings: Settings) -> None:
        self._ledger = ledger
        self._dialect = dialect
        self._merchants = merchants
        self._names = settings.field_map
        self._plain = {theirs for ours, theirs in self._names.fields.items() if ours in _PLAIN}

    async def lines(self, deliveries: Sequence[Delivery]) -> list[str]:
        """Return one JSON line a contact that would be sent, and one with the counts."""
        items = first_seen(item(one.event, self._merchants.get(one.event.merchant), self._names) for one in deliveries)
        known = await self._ledger.look(list(items), sorted({one.contact for one in items.values()}))
        planned = plan(items.values(), known)
        calls = -(-len(planned.sendings) // self._dialect.max_items)
        counts = {"events": len(deliveries), "would_send": len(planned.sendings), "calls": calls}
        return [*map(self._line, planned.sendings), orjson.dumps(counts).decode()]

    def _line(self, sending: Sending) -> str:
        method, path, _, body = self._dialect.request([self._masked(sending.item)])
        said = {
            "event_id": sending.item.event_id,
            "supersedes": len(sending.older),
            "call": f"{method} {path}",
            "body": orjson.loads(body),
        }
        return orjson.dumps(said).decode()

    def _masked(self, one: Item) -> Item:
        merchant, _, record_id = one.contact.partition(":")
        properties = {name: value if name in self._plain else _mask(value) for name, value in one.properties.items()}
        return one._replace(contact=f"{merchant}:{_mask(record_id)}", properties=properties)


def _mask(value: str) -> str:
    return f"{value[0]}***" if value else ""


@asynccontextmanager
async def preview(settings: Settings, merchants: Mapping[str, Merchant]) -> AsyncIterator[CrmPreview]:
    """Connect to the ledger, which is only read. The CRM is not asked at all.

    Raises:
        SinkUnavailable: the ledger's database is away, or `dial-results storage migrate` has not run.
    """
    try:
        async with open_ledger(settings) as ledger:
            yield CrmPreview(ledger, DIALECTS[settings.vendor](settings), merchants, settings)
    except DISCONNECTED as error:
        if (away := unavailable(error)) is None:
            raise
        raise away from error
