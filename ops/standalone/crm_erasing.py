"""How each vendor's API erases a contact: HubSpot by its own id, the others by the merchant's name of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from ops.standalone.crm_desk import json_answer
from ops.standalone.crm_store import shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ops.standalone.crm_desk import Desk, Vendor
    from ops.standalone.crm_store import Contact, Store

    _Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Erasing:
    """The pages; each is let in by the desk, by token and limit, as every other call."""

    def __init__(self, store: Store, desk: Desk) -> None:
        self._store = store
        self._desk = desk

    def hubspot_read(self, vendor: Vendor) -> _Page:
        """One contact by the unique property: what it takes to learn HubSpot's id."""

        async def page(request: web.Request) -> web.Response:
            found = self._store.contacts.get(request.match_info["contact"])
            missing = json_answer({"status": "error", "category": "OBJECT_NOT_FOUND"}, 404)
            return self._desk.refusal(vendor, request) or (json_answer(shown(found)) if found else missing)

        return page

    def hubspot(self, vendor: Vendor) -> _Page:
        """GDPR delete by HubSpot's id: 204, whether or not it is there."""

        async def page(request: web.Request) -> web.Response:
            if refusal := self._desk.refusal(vendor, request):
                return refusal
            if (found := self._by_id(orjson.loads(await request.read()).get("objectId"))) is not None:
                self._store.erase(found)
            return web.Response(status=204)

        return page

    def by_name(self, vendor: Vendor) -> _Page:
        """Delete by external id: 204, or 404 as Salesforce words it."""

        async def page(request: web.Request) -> web.Response:
            if refusal := self._desk.refusal(vendor, request):
                return refusal
            if request.match_info["contact"] not in self._store.contacts:
                return json_answer([{"errorCode": "NOT_FOUND", "message": "does not exist"}], 404)
            self._store.erase(request.match_info["contact"])
            return web.Response(status=204)

        return page

    def _by_id(self, identity: str) -> str | None:
        def is_it(entry: tuple[str, Contact]) -> bool:
            return entry[1].id == identity

        return next((name for name, _ in filter(is_it, self._store.contacts.items())), None)
