"""Hostile senders in a process of their own: `python -m tests.faults.hostile PORT TOKEN SECONDS [ATTACK ...]`.

Each attack is a coroutine that goes on until the time is up, on raw connections. Prints the counts as JSON.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

WRONG = "w" * 43
Counts = Counter[str]
Attack = Callable[["Target", Counts], Awaitable[None]]


class Target:
    """Where to, and with which token; some attacks know it, as an insider would."""

    def __init__(self, port: int, token: str) -> None:
        self.port, self.token = port, token

    def head(self, token: str, headers: str) -> bytes:
        return f"POST /callbacks/{token} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def say(self, data: bytes, limit_s: float = 8) -> str:
        """Send, read to the end or to the limit; return what became of it."""
        reader, writer = await self.connect()
        try:
            async with asyncio.timeout(limit_s):
                writer.write(data)
                return _outcome(await reader.read(12))
        except TimeoutError:
            return "no answer"
        except OSError:
            return "reset"
        finally:
            writer.transport.abort()


def _outcome(answer: bytes) -> str:
    return answer[9:12].decode() if answer.startswith(b"HTTP/1.1 ") else "closed"


async def slowloris(target: Target, counts: Counts) -> None:
    """300 connections, each with a header that grows by a byte every half second."""

    async def one() -> None:
        reader, writer = await target.connect()
        with suppress(OSError):
            writer.write(target.head(WRONG, "X: ")[:-2])
            while not reader.at_eof():
                await asyncio.sleep(0.5)
                writer.write(b"x")
                await writer.drain()
        counts["slowloris closed"] += 1

    counts["slowloris opened"] += 300
    await asyncio.gather(*(one() for _ in range(300)))


async def slow_body(target: Target, counts: Counts) -> None:
    """50 connections with a good token, and a body of a byte a second."""

    async def one() -> None:
        while True:
            reader, writer = await target.connect()
            answer = asyncio.create_task(reader.read(12))
            with suppress(OSError):
                writer.write(target.head(target.token, "Content-Length: 1000\r\n"))
                while not answer.done():
                    writer.write(b"x")
                    await asyncio.wait((answer,), timeout=1)
            counts[f"slow body {_outcome(await answer)}"] += 1
            writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(50)))


async def huge(target: Target, counts: Counts) -> None:
    """10 GB declared, and a megabyte of it sent; by those who know the token and those who do not."""
    while True:
        for token in (target.token, WRONG):
            outcome = await target.say(target.head(token, "Content-Length: 10000000000\r\n") + b"x" * 1_000_000)
            counts[f"10 GB declared {outcome}"] += 1
            await asyncio.sleep(0.1)


async def bomb(target: Target, counts: Counts) -> None:
    """A gigabyte of zeros in a megabyte of gzip."""
    packed = gzip.compress(bytes(1 << 20), 9) * 800
    while True:
        head = target.head(target.token, f"Content-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n")
        counts[f"gzip bomb {await target.say(head + packed)}"] += 1
        await asyncio.sleep(0.5)


async def brackets(target: Target, counts: Counts) -> None:
    """100,000 opening brackets."""
    while True:
        head = target.head(target.token, "Content-Length: 100000\r\n")
        counts[f"brackets {await target.say(head + b'[' * 100_000)}"] += 1
        await asyncio.sleep(0.2)


def shapes(target: Target) -> list[bytes]:
    """Return requests whose end two parsers may see at different places; behind each a second one is hidden."""
    hidden = target.head(target.token, "Content-Length: 8\r\n") + b"smuggled"
    chunked = b"0\r\n\r\n"
    headers = [
        f"Content-Length: {len(chunked + hidden)}\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 0\r\nContent-Length: 8\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        "X: a\r\n Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Content-Length: 5\nTransfer-Encoding: chunked\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 99999999999999999999999\r\n",
    ]
    sized = b"Transfer-Encoding: chunked\r\n"
    bodies = [b"5;\nx\r\nabcde\r\n0\r\n\r\n", b"0x5\r\nabcde\r\n0\r\n\r\n", b"-1\r\n\r\n", b"FFFFFFFFFFFFFFFFF\r\n"]
    return [
        *(target.head(WRONG, header) + chunked + hidden for header in headers),
        *(target.head(WRONG, "").removesuffix(b"\r\n") + sized + b"\r\n" + body + hidden for body in bodies),
        target.head(WRONG, "").replace(b"\r\n", b"\n") + hidden,
    ]


async def smuggling(target: Target, counts: Counts) -> None:
    """Every shape, again and again, 50 a second."""
    while True:
        for shape in shapes(target):
            counts[f"smuggling {await target.say(shape)}"] += 1
            await asyncio.sleep(0.02)


async def headers(target: Target, counts: Counts) -> None:
    """One header over the bound, too many of them, and many long ones without an end."""
    start = target.head(WRONG, "").removesuffix(b"\r\n")
    shapes = {
        "long": start + b"X: " + b"x" * 100_000,
        "many": start + b"".join(b"X-%d: 1\r\n" % number for number in range(10_000)),
        "endless": start + b"".join(b"X-%d: %b\r\n" % (number, b"x" * 8_000) for number in range(90)),
    }
    while True:
        for name, shape in shapes.items():
            counts[f"headers {name} {await target.say(shape)}"] += 1
            await asyncio.sleep(0.05)


async def idle(target: Target, counts: Counts) -> None:
    """3,000 connections that say nothing."""
    writers = []
    try:
        for _ in range(3_000):
            writers.append((await target.connect())[1])
            counts["idle opened"] += 1
            await asyncio.sleep(0.0005)
        await asyncio.sleep(3_600)
    finally:
        counts["idle closed by the receiver"] += sum(writer.transport.is_closing() for writer in writers)


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack for attack in (slowloris, slow_body, huge, bomb, brackets, smuggling, headers, idle)
}


async def attack(port: int, token: str, seconds: float, names: list[str]) -> Counts:
    target, counts = Target(port, token), Counter[str]()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
            for name in names or ATTACKS:
                tasks.create_task(ATTACKS[name](target, counts))
    return counts


if __name__ == "__main__":
    os.nice(10)
    print(json.dumps(asyncio.run(attack(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4:]))), flush=True)
    os._exit(0)
