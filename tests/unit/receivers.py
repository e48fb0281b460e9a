"""A whole receiver in the test's own process, and raw sockets to it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from receiver.app import Receiver
from receiver.counts import PublishCounts
from receiver.journal import Disk, Journal, JournaledCallback
from receiver.publisher import Publisher
from receiver.settings import ReceiverSettings

TOKEN = "canary-token-" + "t" * 30
OTHER_TOKEN = "other-token--" + "u" * 30
WRONG_TOKEN = "wrong-token--" + "w" * 30
BODY = b'{"taskId":1,"records":[{"id":"1"}]}'
SUCCESS = b'{"code":200,"message":"success"}'
NOBODY = {"bootstrap_servers": "127.0.0.1:1"}


def merchants(*tokens: tuple[str, str, str]) -> str:
    """Return a merchants' file of (merchant, token id, token)."""
    names = dict.fromkeys(merchant for merchant, _, _ in tokens)
    lines = [f"[{name}]\ntimezone = 'Asia/Kuala_Lumpur'\n" for name in names]
    lines += [
        f"[[{merchant}.tokens]]\nid = '{token_id}'\nsha256 = '{hashlib.sha256(token.encode()).hexdigest()}'\n"
        "created = 2026-11-24\n"
        for merchant, token_id, token in tokens
    ]
    return "\n".join(lines)


def settings(folder: Path, **changes: Any) -> ReceiverSettings:
    file = folder / "merchants.toml"
    if not file.exists():
        file.write_text(merchants(("demo", "t-1", TOKEN), ("acme", "t-2", OTHER_TOKEN)))
    defaults = {
        "port": 0,
        "admin_port": 0,
        "merchants_file": file,
        "journal_dir": folder / "journal",
        "journal_quota_bytes": 64 << 20,
        "journal_segment_bytes": 4 << 20,
    }
    return ReceiverSettings(**(defaults | changes))


class Running:
    """A receiver that listens."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.stop = asyncio.Event()
        self.exit_code: int | None = None

    def journaled(self) -> list[JournaledCallback]:
        return self.receiver.journal.read(0, 10_000, 1 << 30)

    async def raw(self, *pieces: bytes, limit_s: float = 60, admin: bool = False) -> bytes:
        """Send, and return what comes until the other side closes; closes its own sending side first."""
        port = self.receiver.admin_port if admin else self.receiver.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(limit_s):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                return await reader.read()
        finally:
            writer.close()

    async def ask(self, request: bytes, *, admin: bool = False) -> Answered:
        return Answered(await self.raw(request, admin=admin))

    async def post(self, body: bytes = BODY, token: str = TOKEN, headers: str = "") -> Answered:
        return await self.ask(post(body, token, headers))


class Answered:
    """An HTTP response, taken apart."""

    def __init__(self, response: bytes) -> None:
        self.bytes = response
        head, _, self.body = response.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.status = int(lines[0].split(" ")[1]) if lines[0] else 0
        self.headers = dict(line.split(": ", 1) for line in lines[1:])

    def without_date(self) -> tuple[int, dict[str, str], bytes]:
        headers = {name: value for name, value in self.headers.items() if name != "Date"}
        return self.status, headers, self.body


def post(body: bytes = BODY, token: str = TOKEN, headers: str = "") -> bytes:
    """Write a request that asks for its connection to be closed."""
    return (
        f"POST /callbacks/{token} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n"
    ).encode() + body


@asynccontextmanager
async def running(
    folder: Path, disk: Disk | None = None, kafka: Mapping[str, Any] = NOBODY, **changes: Any
) -> AsyncIterator[Running]:
    def publishing(journal: Journal, counts: PublishCounts) -> Publisher:
        return Publisher(journal, kafka, counts)  # on the test's own loop: a process each would take half a second

    one = Running(Receiver(settings(folder, **{"stop_grace_s": 0.0} | changes), publishing, disk))
    task = asyncio.create_task(one.receiver.run(one.stop))
    try:
        async with asyncio.timeout(60):
            await one.receiver.started.wait()
        yield one
    finally:
        one.stop.set()
        async with asyncio.timeout(60):
            one.exit_code = await task


async def until(condition: Any, limit_s: float = 60) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.01)
