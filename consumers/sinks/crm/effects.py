"""What a CRM holds of us, for the contract suite and for operators' checks."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp

from .ledger import open_ledger

if TYPE_CHECKING:
    from .settings import Settings

_ANSWER_S = 60.0


async def event_ids(settings: Settings) -> list[str]:
    """Return the event id of every effect: as the sandbox CRM recorded them, else the ledger's done results.

    Raises:
        aiohttp.ClientError, TimeoutError: the CRM does not answer.
    """
    timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{settings.url}/effects") as response:
        if response.status == HTTPStatus.OK:
            return [effect["event_id"] for effect in await response.json()]
    async with open_ledger(settings) as ledger:
        return await ledger.done()
