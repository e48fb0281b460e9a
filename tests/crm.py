"""The sandbox CRM inside a test's own process, over real HTTP; events; and a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from consumers.sink import Delivery
from consumers.sinks.crm import Settings
from ops.standalone.crm_pages import make_app
from ops.standalone.crm_store import Store
from ops.standalone.crm_window import Window
from schemas.blu import BluRecord
from schemas.event import DialResult, dial_result
from schemas.exact import canonical
from schemas.topics import DIAL_RESULTS

TOKEN = "made-up-token"
EVENT = ("dial_result_event_id", "Dial_Result_Event_Id__c", "event_id")
PATH = "/crm/objects/2026-09/contacts/batch/upsert"


class Crm:
    """What a test asks of a sandbox CRM."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def get(self, path: str) -> Any:
        async with self.session.get(self.url + path) as response:
            return await response.json() if response.status == 200 else response.status

    async def faults(self, *faults: dict[str, Any]) -> None:
        async with self.session.post(f"{self.url}/faults", json=list(faults)) as response:
            assert response.status == 200, await response.text()

    async def good_days(self) -> None:
        async with self.session.delete(f"{self.url}/faults") as response:
            assert response.status == 200

    async def effects(self) -> list[str]:
        return [effect["event_id"] for effect in await self.get("/effects")]

    async def shows(self, contact: str) -> str | None:
        """Return the event that a contact shows."""
        found = await self.get(f"/contacts/{contact}")
        return (
            None if found == 404 else next(found["properties"][name] for name in EVENT if name in found["properties"])
        )

    async def calls(self) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = await self.get("/calls")
        return calls

    async def upsert(
        self, inputs: Any, *, token: str = TOKEN, path: str = PATH
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Make one call of HubSpot's; return status, body, headers."""
        return await self.call("POST", path, {"inputs": inputs}, Authorization=f"Bearer {token}")

    async def call(self, method: str, path: str, body: Any, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Make any call; return status, body, headers."""
        given = {"Authorization": f"Bearer {TOKEN}"} | {name.replace("_", "-"): text for name, text in headers.items()}
        async with self.session.request(method, self.url + path, json=body, headers=given) as response:
            return response.status, await response.json(), dict(response.headers)


@asynccontextmanager
async def sandbox(
    state: Path, limit: int = 190, window_s: float = 10.0, webhook_secret: str | None = None
) -> AsyncIterator[Crm]:
    app = make_app(Store(state), TOKEN, Window(limit, window_s), webhook_secret)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession() as session:
            yield Crm(f"http://{host}:{port}", session)
    finally:
        await runner.cleanup()


def one_input(contact: str = "demo:1", event: str = "e-1", **properties: Any) -> dict[str, Any]:
    return {
        "idProperty": "dial_contact",
        "id": contact,
        "objectWriteTraceId": event,
        "properties": {"dial_result_event_id": event} | properties,
    }


def settings(url: str, **more: Any) -> Settings:
    """Make settings of the sink for a sandbox CRM; without a ledger unless one is given."""
    return Settings(**({"url": url, "token": TOKEN, "ledger_dsn": "postgresql://unused"} | more))


def event(record_id: str, text: str = "", *, received_ms: int = 1_700_000_000_000, **record: Any) -> DialResult:
    content = canonical({"id": record_id, "text": text} | record)
    return dial_result("demo", "66635573", BluRecord(0, record_id, content), received_ms)


def called(record_id: str, minute: int, **record: Any) -> DialResult:
    """Make the result of a call at that minute of one hour."""
    at = datetime(2026, 11, 24, 3, minute, tzinfo=UTC).isoformat()
    return event(record_id, callTime=at, **record)


def deliveries(*events: DialResult) -> list[Delivery]:
    return [Delivery(one, DIAL_RESULTS, 0, offset) for offset, one in enumerate(events)]


class ManualClock:
    """Time passes only when the test says so."""

    def __init__(self) -> None:
        self.time = 0.0
        self._sleepers: deque[tuple[float, asyncio.Future[None]]] = deque()

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleepers.append((self.time + seconds, future))
            await future

    async def move(self, seconds: float) -> None:
        """Let time pass, and everybody do what they can do then."""
        self.time += seconds
        for until, future in list(self._sleepers):
            if until <= self.time and not future.done():
                future.set_result(None)
        for _ in range(200):
            await asyncio.sleep(0)
