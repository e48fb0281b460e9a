"""The sandbox CRM's pages: the vendors' calls, and what tests and people look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from aiohttp import web
from pydantic import ValidationError

from ops.standalone.crm_desk import Desk, json_answer
from ops.standalone.crm_erasing import Erasing
from ops.standalone.crm_faults import Fault, Script
from ops.standalone.crm_hubspot import HubSpotApi
from ops.standalone.crm_salesforce import SalesforceApi
from ops.standalone.crm_store import shown
from ops.standalone.crm_webhook import WebhookApi

if TYPE_CHECKING:
    from ops.standalone.crm_desk import Vendor
    from ops.standalone.crm_store import Store
    from ops.standalone.crm_window import Window

_BODY_CAP_BYTES = 4_000_000


class Pages:
    """The handlers of what is not a vendor's."""

    token_life_s = 7_200.0

    def __init__(self, store: Store, desk: Desk, script: Script) -> None:
        self._store = store
        self._desk = desk
        self._script = script

    async def contact(self, request: web.Request) -> web.Response:
        """One contact by `{merchant}:{recordId}`."""
        found = self._store.contacts.get(request.match_info["contact"])
        if found is None:
            return json_answer({"message": "resource not found", "category": "OBJECT_NOT_FOUND"}, 404)
        return json_answer(shown(found))

    async def effects(self, _request: web.Request) -> web.Response:
        """Every change of any contact, oldest first."""
        return json_answer([effect._asdict() for effect in self._store.effects])

    async def calls(self, _request: web.Request) -> web.Response:
        """The latest calls of the API, oldest first."""
        return json_answer([call._asdict() for call in self._desk.calls])

    async def faults(self, request: web.Request) -> web.Response:
        """Add faults to the script: one object or a list of them."""
        try:
            faults = _faults(await request.read())
        except (orjson.JSONDecodeError, ValidationError) as error:
            return json_answer({"message": f"{error}", "category": "VALIDATION_ERROR"}, 400)
        for fault in faults:
            self._script.add(fault)
        return await self.scripted(request)

    async def clear(self, request: web.Request) -> web.Response:
        """Forget the script."""
        self._script.clear()
        return await self.scripted(request)

    async def scripted(self, _request: web.Request) -> web.Response:
        """What is still to come."""
        return json_answer([fault.model_dump() for fault in self._script.waiting()])

    async def token(self, request: web.Request) -> web.Response:
        """Salesforce's client credentials: the secret is the sandbox's token. A token is good for two hours."""
        form = await request.post()
        if form.get("grant_type") != "client_credentials" or form.get("client_secret") != self._desk.token:
            return json_answer({"error": "invalid_client", "error_description": "invalid client credentials"}, 400)
        return json_answer({"access_token": self._desk.grant(self.token_life_s), "token_type": "Bearer"})

    async def healthz(self, _request: web.Request) -> web.Response:
        return json_answer({"status": "ok"})

    async def close(self, _app: web.Application) -> None:
        self._store.close()


def _faults(text: str | bytes) -> list[Fault]:
    """Read one fault or a list of them. Raises JSONDecodeError, ValidationError."""
    body = orjson.loads(text)
    return [Fault.model_validate(one) for one in (body if isinstance(body, list) else [body])]


def make_app(
    store: Store, token: str, window: Window, webhook_secret: str | None = None, faults: str = "[]"
) -> web.Application:
    """Return the application; it closes the store when it ends. `faults` is the script to begin with, a JSON list."""
    script = Script()
    for fault in _faults(faults):
        script.add(fault)
    desk = Desk(store, token, window, script)
    pages = Pages(store, desk, script)
    vendors: tuple[Vendor, ...] = HubSpotApi(), SalesforceApi(), WebhookApi(webhook_secret)
    hubspot, salesforce, webhook = map(desk.handler, vendors)
    erasing = Erasing(store, desk)
    app = web.Application(client_max_size=_BODY_CAP_BYTES)
    app.on_cleanup.append(pages.close)
    app.add_routes(
        [
            web.post(r"/crm/objects/{version:\d{4}-\d{2}}/contacts/batch/upsert", hubspot),
            web.post(r"/crm/{version:v\d}/objects/contacts/batch/upsert", hubspot),
            web.patch(r"/services/data/{version:v\d+\.0}/composite/sobjects/{object}/{field}", salesforce),
            web.post("/services/oauth2/token", pages.token),
            web.get(r"/crm/objects/{version:\d{4}-\d{2}}/contacts/{contact}", erasing.hubspot_read(vendors[0])),
            web.get(r"/crm/{version:v\d}/objects/contacts/{contact}", erasing.hubspot_read(vendors[0])),
            web.post(r"/crm/objects/{version:\d{4}-\d{2}}/contacts/gdpr-delete", erasing.hubspot(vendors[0])),
            web.post(r"/crm/{version:v\d}/objects/contacts/gdpr-delete", erasing.hubspot(vendors[0])),
            web.delete(r"/services/data/{version:v\d+\.0}/sobjects/{o}/{f}/{contact}", erasing.by_name(vendors[1])),
            web.delete("/webhook/{contact}", erasing.by_name(vendors[2])),
            web.post("/webhook", webhook),
            web.put("/webhook", webhook),
            web.get("/contacts/{contact:.+}", pages.contact),
            web.get("/effects", pages.effects),
            web.get("/calls", pages.calls),
            web.get("/faults", pages.scripted),
            web.post("/faults", pages.faults),
            web.delete("/faults", pages.clear),
            web.get("/healthz", pages.healthz),
        ]
    )
    return app
