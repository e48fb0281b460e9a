"""Yardstick (a): an aiohttp handler that reads the body and answers. It stores nothing."""

from __future__ import annotations

import os

import uvloop
from aiohttp import web

ANSWER = b'{"code":200,"message":"success"}'


async def receive(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=ANSWER, content_type="application/json")


def main() -> None:
    uvloop.install()
    app = web.Application(client_max_size=1_000_000)
    app.router.add_post("/callbacks/{token}", receive)
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None, print=None)


if __name__ == "__main__":
    main()
