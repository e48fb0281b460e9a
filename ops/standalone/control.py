"""How `dial-results part` reaches a running `up`: a loopback port, and a secret that only its owner can read."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from ops.standalone.supervisor import READY_S, PartError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.standalone.folder import DataFolder
    from ops.standalone.supervisor import Supervised

FILE = "control.json"
ACTIONS = ("start", "stop", "kill")
_PATIENCE_S = READY_S + 30


class NotRunning(Exception):  # noqa: N818  # a state of affairs
    """No `up` runs on this folder."""


class UnknownPart(Exception):  # noqa: N818
    """There is no part of this name; the message lists those there are."""


class Control:
    """Serves requests to hold parts down, from `open` to `close`."""

    def __init__(self, parts: Mapping[str, Supervised], secret: str) -> None:
        self._parts = parts
        self._secret = secret
        app = web.Application()
        app.router.add_post("/parts/{name}/{action}", self._act)
        self._runner = web.AppRunner(app, access_log=None)

    async def open(self, port: int) -> None:
        """Listen on 127.0.0.1. Raises OSError."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _act(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, self._secret.encode()):
            raise web.HTTPForbidden
        part = self._parts.get(request.match_info["name"])
        action = request.match_info["action"]
        if part is None or action not in ACTIONS:
            raise web.HTTPNotFound(text=f"parts: {' '.join(self._parts)}; actions: {' '.join(ACTIONS)}")
        try:
            await {"start": part.start, "stop": part.stop, "kill": part.kill}[action]()
        except PartError as error:
            raise web.HTTPConflict(text=str(error)) from error
        return web.json_response({"part": part.part.name, "pid": part.pid})


async def ask(folder: DataFolder, name: str, action: str) -> int | None:
    """Have a running `up` act on a part; return its pid afterwards, None while it is down.

    Raises:
        NotRunning: no `up` runs on this folder, or it is not far enough yet to take requests.
        UnknownPart: no such part.
        PartError: it did not become ready, or not in time.
    """
    told = folder.read(FILE)
    if not (told and folder.is_locked()):
        raise NotRunning(f"no `dial-results up` runs on {folder.path}; start one there first")
    try:
        timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
        async with (
            aiohttp.ClientSession(timeout=timeout, headers={"Authorization": told["secret"]}) as session,
            session.post(f"{told['url']}/parts/{name}/{action}") as response,
        ):
            text = await response.text()
    except TimeoutError:
        raise PartError(f"`up` did not answer within {_PATIENCE_S:g} s") from None
    except aiohttp.ClientConnectionError:
        raise NotRunning(f"the `dial-results up` of {folder.path} is just starting or stopping; try again") from None
    if response.status == web.HTTPNotFound.status_code:
        raise UnknownPart(text)
    if response.status != web.HTTPOk.status_code:
        raise PartError(text)
    pid = json.loads(text)["pid"]
    return None if pid is None else int(pid)
