"""The sink itself: check the ledger, send the newest of each contact, write down what came of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from consumers.sink import EventsRejected, SinkUnavailable

from .adapter import open_adapter
from .ledger import DISCONNECTED, DONE, PENDING, REJECTED, SUPERSEDED, Held, Ledger, Row, open_ledger, unavailable
from .mapping import item
from .outcome import UNAUTHORISED, Ok, Outcome, Reject, Retry
from .patience import Patience
from .plan import Plan, Sending, first_seen, plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from consumers.sink import Delivery
    from schemas.merchants import Merchant

    from .adapter import Adapter
    from .mapping import Item
    from .settings import Settings

log = structlog.get_logger()


@dataclass
class Round:
    """What became of one round of calls."""

    rejected: dict[str, str] = field(default_factory=dict)
    retries: list[Retry] = field(default_factory=list)
    again: set[str] = field(default_factory=set)
    """Contacts of which something is left to do at once."""


class CrmSink:
    """Keeps each contact of a CRM at its newest result (`consumers.sink.Sink`)."""

    def __init__(self, adapter: Adapter, ledger: Ledger, merchants: Mapping[str, Merchant], settings: Settings) -> None:
        self._adapter = adapter
        self._ledger = ledger
        self._merchants = merchants
        self._names = settings.field_map
        self._hold_s = settings.hold_s
        self._patience = Patience(settings.give_up_s)

    async def write(self, deliveries: Sequence[Delivery]) -> None:
        """Bring each contact to its newest result; every event is done or superseded in the ledger on return.

        Raises:
            SinkUnavailable: CRM or ledger is away, asks for a pause, or refuses our token.
            EventsRejected: the CRM refuses these results; reasons are `crm-...`.
        """
        events = [one.event for one in deliveries]
        items = first_seen(item(event, self._merchants.get(event.merchant), self._names) for event in events)
        rejected = {key: "crm-nul-in-id" for key, one in items.items() if "\0" in one.contact}
        waiting = [one for key, one in items.items() if key not in rejected]
        retries: list[Retry] = []
        while waiting:
            outcome = await self._round(waiting)
            retries += outcome.retries
            rejected |= {key: code for key, code in outcome.rejected.items() if key in items}
            waiting = [one for one in waiting if one.contact in outcome.again and one.event_id not in rejected]
        _raise_if_unavailable(retries)  # repairs come first: who has the contacts now does not know of them
        if rejected:
            raise EventsRejected(rejected)

    async def erase(self, merchant: str, record_id: str) -> str:
        """Have the CRM erase the contact, then delete its rows of the ledger. Raises SinkUnavailable."""
        contact = f"{merchant}:{record_id}"
        if "\0" in contact:
            return ""  # it was never sent
        try:
            async with self._ledger.hold([contact]) as held:
                give_up_at = time.monotonic() + self._hold_s
                erased = await self._adapter.erase(contact, await held.remote_id(contact), give_up_at)
                if isinstance(erased, Retry):
                    raise SinkUnavailable(erased.reason, erased.after_s)
                await held.erase(contact)
                return erased
        except DISCONNECTED as error:
            if (away := unavailable(error)) is None:
                raise
            raise away from error

    async def _round(self, items: Sequence[Item]) -> Round:
        """Send once for each contact, under its lock. Raises SinkUnavailable if the ledger is away."""
        try:
            return await self._send_held(items)
        except DISCONNECTED as error:
            if (away := unavailable(error)) is None:
                raise
            raise away from error

    async def _send_held(self, items: Sequence[Item]) -> Round:
        contacts = sorted({one.contact for one in items})
        outcomes: list[Outcome] | None = None
        try:
            async with self._ledger.hold(contacts) as held:
                give_up_at = time.monotonic() + self._hold_s
                planned = plan(items, await held.known([one.event_id for one in items], contacts))
                await self._ledger.intend([one.item for one in planned.sendings if not one.again])
                outcomes = await self._send([one.item for one in planned.sendings], give_up_at)
                return await self._settle(held, planned, outcomes)
        except DISCONNECTED:
            if not outcomes:
                raise
        # The locks were lost behind the calls: somebody may have sent a newer result meanwhile. Look again.
        async with self._ledger.hold(contacts) as held:
            return await self._settle(held, planned, outcomes)

    async def _send(self, items: Sequence[Item], give_up_at: float) -> list[Outcome]:
        size = self._adapter.max_items
        parts = [items[start : start + size] for start in range(0, len(items), size)]
        async with asyncio.TaskGroup() as calls:
            tasks = [calls.create_task(self._adapter.upsert(part, give_up_at)) for part in parts]
        return self._patience.judge(items, [outcome for task in tasks for outcome in task.result()])

    async def _settle(self, held: Held, planned: Plan, outcomes: Sequence[Outcome]) -> Round:
        """Write down what came of it, after one more look at what is newest."""
        newest = await held.newest([one.item.contact for one in planned.sendings])
        rows = [Row(one, SUPERSEDED) for one in planned.superseded]
        result = Round()
        for sending, outcome in zip(planned.sendings, outcomes, strict=True):
            rows += _rows(sending, outcome, newest.get(sending.item.contact), result)
        await held.write(rows)
        return result


def _rows(sending: Sending, outcome: Outcome, newest: Item | None, result: Round) -> Iterable[Row]:
    """Return the ledger's rows for one sending; note in `result` what is left to do."""
    one = sending.item
    if newest and newest.rank > one.rank and not isinstance(outcome, Reject):
        log.warning("a newer result came in while the lock was lost: it is sent again")
        result.again.add(one.contact)
        return [Row(one, PENDING, keep=True)]
    if isinstance(outcome, Retry):
        result.retries.append(outcome)
        return []
    if isinstance(outcome, Reject) and sending.again:
        return [Row(older, SUPERSEDED) for older in sending.older]  # it stands there already, or nothing newer can
    if isinstance(outcome, Reject):
        result.rejected[one.event_id] = outcome.code
        result.again.add(one.contact)
        return [Row(one, REJECTED, reason=outcome.code)]
    return _done(sending, outcome, newest)


def _done(sending: Sending, outcome: Ok, newest: Item | None) -> list[Row]:
    rows = [Row(one, SUPERSEDED) for one in sending.older]
    if newest and newest.event_id != sending.item.event_id:
        rows.append(Row(newest, DONE))  # no longer the newest: its properties go
    return [*rows, Row(sending.item, DONE, remote_id=outcome.remote_id, keep=True)]


def _raise_if_unavailable(retries: Sequence[Retry]) -> None:
    """Raise for the one that asks for the longest pause."""
    if retries:
        longest = max(retries, key=lambda retry: retry.after_s or 0.0)
        if longest.reason == UNAUTHORISED:
            log.error("the CRM refuses our token: paused until an operator mends it")
        raise SinkUnavailable(longest.reason, longest.after_s)


@asynccontextmanager
async def connect(settings: Settings, merchants: Mapping[str, Merchant]) -> AsyncIterator[CrmSink]:
    """Connect to the ledger. The CRM itself is first asked by the first write.

    Raises:
        SinkUnavailable: the ledger's database is away, or `dial-results storage migrate` has not run.
    """
    async with AsyncExitStack() as stack:
        try:
            ledger = await stack.enter_async_context(open_ledger(settings))
        except DISCONNECTED as error:
            if (away := unavailable(error)) is None:
                raise
            raise away from error
        adapter = await stack.enter_async_context(open_adapter(settings))
        yield CrmSink(adapter, ledger, merchants, settings)
