"""Answers `queryCallResult` as Blu does, out of what the simulator made up; whether it was ever posted or not.

Sources: Blu's pages "Authentication" and "Dial result query"; what no page says (codes of refusal, the largest page,
how old a signature may be) is on the strict side. A record differs from its callback's in this: it carries `jobId` and
`taskId`, and it is good JSON.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections import defaultdict, deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from ops.blu.client import PAGE_SIZE, PATH, SUCCESS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ops.blu.bodies import Callback

APP_ID = "simulator"
WRONG_SIGNATURE, WRONG_REQUEST = 4001, 4002
_LARGEST_PAGE = 200
_SIGNATURE_S = 300


class Queries:
    """What Blu knows: every call that it made, in order, by task. `faults` are HTTP statuses to answer first."""

    def __init__(self, app_key: str, app_id: str = APP_ID) -> None:
        self.calls = 0
        self.faults: deque[int] = deque()
        self.signed = (app_id, app_key)
        self._tasks: dict[str, list[bytes]] = defaultdict(list)

    def add(self, callback: Callback) -> None:
        """Take a finished call into the books."""
        job = f'{{"jobId":{9 * 10**15 + callback.number},"taskId":"{callback.task_id}",'.encode()
        self._tasks[callback.task_id].append(job + callback.canonical.removeprefix(b"{"))

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[str]:
        """Answer on this machine; give out the address, without the query's path. Raises OSError: the port is taken."""
        app = web.Application()
        app.router.add_post(PATH, self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.calls += 1
        if self.faults:
            return web.Response(status=self.faults.popleft())
        if not self._is_signed(request):
            return _said(WRONG_SIGNATURE, "sign error")
        try:
            asked = json.loads(await request.read())
            task_id = str(asked["taskId"])
            number, size = int(asked.get("pageNo", 1)), int(asked.get("pageSize", PAGE_SIZE))
        except (ValueError, TypeError, LookupError):
            return _said(WRONG_REQUEST, "parameter error")
        if number < 1 or not 1 <= size <= _LARGEST_PAGE:
            return _said(WRONG_REQUEST, "parameter error")
        return _page(self._tasks.get(task_id, [])[(number - 1) * size : number * size])

    def _is_signed(self, request: web.Request) -> bool:
        app_id, key = self.signed
        said = request.headers.get("timeStamp", "")
        if not said.isdecimal() or abs(time.time() - int(said) / 1000) > _SIGNATURE_S:
            return False
        sign = hashlib.sha256(f"{app_id}{key}{said}".encode()).hexdigest()
        given = request.headers.get("sign", "").encode(errors="replace")
        return request.headers.get("appId") == app_id and hmac.compare_digest(sign.encode(), given)


def _said(code: int, message: str) -> web.Response:
    return web.json_response({"code": code, "message": message})


def _page(records: list[bytes]) -> web.Response:
    data = b'{"count":%d,"records":[%b]}' % (len(records), b",".join(records))
    body = b'{"code":%d,"message":"success","data":%b}' % (SUCCESS, data)
    return web.Response(body=body, content_type="application/json", charset="utf-8")
