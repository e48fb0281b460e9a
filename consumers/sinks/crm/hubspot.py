"""HubSpot: contacts by batch upsert, 100 a call. The sandbox CRM (`ops/standalone/crm.py`) has the same shape."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import orjson

from .answers import Answer, Unclear, read
from .limiter import SlidingWindow
from .mapping import ID_PROPERTY
from .outcome import Outcome, Reject, Retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from .mapping import Item
    from .settings import Settings

_CONNECT_S = 5.0


class HubSpot:
    """An adapter: a batch in, one outcome an item out. It raises nothing but cancellation and bugs."""

    max_items = 100

    def __init__(self, session: aiohttp.ClientSession, settings: Settings) -> None:
        self._session = session
        self._path = _path(settings.api_version)
        self._pause_s = settings.pause_s
        self._window = SlidingWindow(settings.limit_calls, settings.limit_window_s)
        self._at_once = asyncio.Semaphore(settings.concurrency)
        self._quiet_until = 0.0

    async def upsert(self, items: Sequence[Item], give_up_at: float) -> list[Outcome]:
        """Send at most `max_items` items, no contact twice; start no call after `give_up_at` (`time.monotonic`).

        Where HubSpot refuses a batch without saying for which item's sake, the batch is halved until it does.
        """
        answer = await self._post(items, give_up_at)
        if isinstance(answer, Retry):
            return [answer] * len(items)
        verdicts = dict(zip(items_by_id(items), read(answer, items, self._pause_s), strict=True))
        self._note_pause(verdicts.values())
        unclear = [one for one in items if isinstance(verdicts[one.event_id], Unclear)]
        verdicts |= await self._clear(unclear, items, verdicts, give_up_at)
        return [verdict for verdict in verdicts.values() if not isinstance(verdict, Unclear)]

    async def _clear(
        self, unclear: Sequence[Item], items: Sequence[Item], verdicts: dict[str, Outcome | Unclear], give_up_at: float
    ) -> dict[str, Outcome]:
        """Find out what is the matter with the unclear ones."""
        if len(items) == 1:
            return {key: Reject(verdict.code) for key, verdict in verdicts.items() if isinstance(verdict, Unclear)}
        cleared: dict[str, Outcome] = {}
        middle = len(unclear) // 2 if len(unclear) == len(items) else len(unclear)
        for part in (unclear[:middle], unclear[middle:]):
            if part:
                cleared |= zip(items_by_id(part), await self.upsert(part, give_up_at), strict=True)
        return cleared

    def _note_pause(self, verdicts: Iterable[Outcome | Unclear]) -> None:
        """Leave HubSpot alone for as long as it asked, also in the calls that wait for their turn."""
        pauses = [verdict.after_s or 0.0 for verdict in verdicts if isinstance(verdict, Retry)]
        self._quiet_until = max(self._quiet_until, time.monotonic() + max(pauses, default=0.0))

    def _must_wait(self, give_up_at: float) -> Retry | None:
        now = time.monotonic()
        if now < self._quiet_until:
            return Retry("crm-paused", self._quiet_until - now)
        # The contacts may be somebody else's by now.
        return Retry("crm-not-sent", 0.0) if now > give_up_at else None

    async def _post(self, items: Sequence[Item], give_up_at: float) -> Answer | Retry:
        """Make one call; whatever hides its outcome is a Retry."""
        if wait := self._must_wait(give_up_at):
            return wait  # and take nobody's place for it
        body = orjson.dumps({"inputs": [_input(one) for one in items]})
        async with self._at_once, self._window.place():
            if wait := self._must_wait(give_up_at):
                return wait
            try:
                async with self._session.post(self._path, data=body, allow_redirects=False) as response:
                    return Answer(response.status, response.headers, await response.read())
            except TimeoutError:
                return Retry("crm-timeout")
            except (aiohttp.ClientError, OSError) as error:
                return Retry(f"crm-{type(error).__name__}")


@asynccontextmanager
async def open_hubspot(settings: Settings) -> AsyncIterator[HubSpot]:
    """Make the adapter. No connection is opened before the first call."""
    headers = {
        "Authorization": f"Bearer {settings.token.get_secret_value()}",
        "Content-Type": "application/json",
        "Accept": "application/json",
    }
    timeout = aiohttp.ClientTimeout(total=settings.call_timeout_s, sock_connect=_CONNECT_S)
    connector = aiohttp.TCPConnector(limit=settings.concurrency)
    async with aiohttp.ClientSession(settings.url, headers=headers, timeout=timeout, connector=connector) as session:
        yield HubSpot(session, settings)


def items_by_id(items: Sequence[Item]) -> list[str]:
    """Return the items' event ids, in order."""
    return [one.event_id for one in items]


def _path(version: str) -> str:
    dated = f"/crm/objects/{version}/contacts/batch/upsert"
    return f"/crm/{version}/objects/contacts/batch/upsert" if version.startswith("v") else dated


def _input(one: Item) -> dict[str, object]:
    return {
        "idProperty": ID_PROPERTY,
        "id": one.contact,
        "objectWriteTraceId": one.event_id,  # comes back in results and errors
        "properties": {ID_PROPERTY: one.contact, **one.properties},
    }
