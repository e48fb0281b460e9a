"""The fast lane answers as the ordinary lane does, and stores before it answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from receiver import fast_lane, server
from receiver.answers import Answer
from receiver.callbacks import Callbacks
from receiver.journal import Disk
from receiver.tokens import ActiveToken

from .receivers import BODY, OTHER_TOKEN, SUCCESS, TOKEN, WRONG_TOKEN, Answered, Running, running, until


def keep_alive(body: bytes = BODY, token: str = TOKEN, method: str = "POST", headers: str = "") -> bytes:
    head = f"{method} /callbacks/{token} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


class Client:
    """One kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> Answered:
        async with asyncio.timeout(60):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            return Answered(head + await self.reader.readexactly(length))

    async def ask(self, request: bytes) -> Answered:
        self.writer.write(request)
        return await self.answer()


_opened: list[Client] = []


@pytest.fixture(autouse=True)
async def _hang_up() -> AsyncIterator[None]:
    yield
    for client in _opened:
        client.writer.transport.abort()
    await asyncio.sleep(0)
    _opened.clear()


async def connect(one: Running) -> Client:
    client = Client(*await asyncio.open_connection("127.0.0.1", one.receiver.port))
    _opened.append(client)
    assert (await client.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).status == 404  # now the connection is idle
    return client


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose callbacks the fast lane took: a test that never uses it proves nothing."""
    merchants: list[str] = []
    store = Callbacks.store

    def noting(self: Callbacks, token: ActiveToken, body: bytes, done: Callable[[Answer], None]) -> None:
        merchants.append(token.merchant)
        store(self, token, body, done)

    monkeypatch.setattr(Callbacks, "store", noting)
    return merchants


class SlowDisk(Disk):
    """Syncs when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def fdatasync(self, fd: int) -> None:
        self.gate.wait(120)
        super().fdatasync(fd)


async def test_a_plain_callback_is_stored_and_answered_as_on_the_ordinary_lane(
    tmp_path: Path, taken: list[str]
) -> None:
    async with running(tmp_path) as one:
        client = await connect(one)
        fast = await client.ask(keep_alive())
        assert len(taken) == 1
        slow = await client.ask(keep_alive(headers="Expect: nothing\r\n"))
        assert len(taken) == 1
        assert fast.without_date() == slow.without_date()
        assert (fast.status, fast.body) == (200, SUCCESS)
        assert [entry.body for entry in one.journaled()] == [BODY, BODY]
        assert one.receiver.counts.traffic["demo"].acknowledged == 2


async def test_no_answer_before_the_bytes_are_on_disk(tmp_path: Path, taken: list[str]) -> None:
    disk = SlowDisk()
    async with running(tmp_path, disk) as one:
        client = await connect(one)
        disk.gate.clear()
        client.writer.write(keep_alive())
        await until(lambda: taken)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.reader.read(1)
        disk.gate.set()
        assert (await client.answer()).status == 200


async def test_pipelined_requests_are_answered_in_order(tmp_path: Path, taken: list[str]) -> None:
    disk = SlowDisk()
    async with running(tmp_path, disk) as one:
        client = await connect(one)
        disk.gate.clear()
        client.writer.write(keep_alive(b"1"))
        await until(lambda: taken)
        wrong = keep_alive(token=WRONG_TOKEN)
        client.writer.write(b"".join([wrong, *(keep_alive(str(n).encode()) for n in range(2, 81))]))
        await asyncio.sleep(0)
        disk.gate.set()
        statuses = [(await client.answer()).status for _ in range(81)]
        assert statuses == [200, 404, *[200] * 79]
        assert [entry.body for entry in one.journaled()] == [str(n).encode() for n in range(1, 81)]
        assert (await client.ask(keep_alive(b"81"))).status == 200


@pytest.mark.parametrize(
    "request_",
    [
        keep_alive(token=WRONG_TOKEN),
        keep_alive(method="PUT"),
        keep_alive(headers="Content-Encoding: gzip\r\n"),
        keep_alive(headers="Connection: close\r\n"),
        keep_alive().replace(b"HTTP/1.1", b"HTTP/1.0"),
        keep_alive()[:-5],
    ],
)
async def test_anything_unusual_takes_the_ordinary_lane(tmp_path: Path, taken: list[str], request_: bytes) -> None:
    async with running(tmp_path) as one:
        client = await connect(one)
        client.writer.write(request_)
        if request_.endswith(BODY[:-5]):
            await until(lambda: one.receiver.callbacks.in_flight == 1)
            client.writer.write(BODY[-5:])
        assert (await client.answer()).status in (200, 404)
        assert not taken


async def test_merchants_are_told_apart(tmp_path: Path, taken: list[str]) -> None:
    async with running(tmp_path) as one:
        client = await connect(one)
        for token in (TOKEN, OTHER_TOKEN):
            assert (await client.ask(keep_alive(token=token))).status == 200
        assert [entry.merchant for entry in one.journaled()] == ["demo", "acme"]
        assert len(taken) == 2


async def test_a_body_over_the_cap_is_refused(tmp_path: Path, taken: list[str]) -> None:
    async with running(tmp_path, body_cap_bytes=100) as one:
        client = await connect(one)
        assert (await client.ask(keep_alive(b"x" * 101))).status == 413
        assert taken
        assert await client.reader.read() == b""  # closed behind it
        assert not one.journaled()


async def test_a_failed_disk_is_never_answered_200(tmp_path: Path, taken: list[str]) -> None:
    class Failing(Disk):
        broken = False

        def fdatasync(self, fd: int) -> None:
            if self.broken:
                raise OSError(5, "Input/output error")
            super().fdatasync(fd)

    disk = Failing()
    async with running(tmp_path, disk) as one:
        client = await connect(one)
        disk.broken = True
        assert (await client.ask(keep_alive())).status == 503
        assert taken
        await asyncio.wait_for(one.receiver.journal.failed.wait(), 60)
    assert one.exit_code == 75


async def test_stopping_waits_for_the_answer_and_then_closes(
    tmp_path: Path, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_DRAIN_S", 0.1)
    monkeypatch.setattr(server, "_SHUTDOWN_S", 60.0)
    disk = SlowDisk()
    async with running(tmp_path, disk) as one:
        client = await connect(one)
        disk.gate.clear()
        client.writer.write(keep_alive())
        await until(lambda: taken)
        one.stop.set()
        asyncio.get_running_loop().call_later(1.0, disk.gate.set)  # past the drain, within the shutdown
        answer = await client.answer()
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert await client.reader.read() == b""
    assert one.exit_code == 0


async def test_a_sender_that_goes_away_harms_nobody(tmp_path: Path, taken: list[str]) -> None:
    disk = SlowDisk()
    async with running(tmp_path, disk) as one:
        gone, other = await connect(one), await connect(one)
        disk.gate.clear()
        gone.writer.write(keep_alive(b"1"))
        other.writer.write(keep_alive(b"2"))
        await until(lambda: len(taken) == 2)
        gone.writer.transport.abort()
        disk.gate.set()
        assert (await other.answer()).status == 200
        assert len(one.journaled()) == 2


async def pass_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let so much time pass for the event loop, and what is due then happen."""
    loop = asyncio.get_running_loop()
    now = loop.time
    monkeypatch.setattr(loop, "time", lambda: now() + seconds)
    await asyncio.sleep(0.05)


async def test_a_slow_commit_is_not_taken_for_an_idle_connection(
    tmp_path: Path, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk()
    async with running(tmp_path, disk, keepalive_s=60.0) as one:
        client = await connect(one)
        disk.gate.clear()
        await pass_time(monkeypatch, 40.0)
        client.writer.write(keep_alive())
        await until(lambda: taken)
        await pass_time(monkeypatch, 40.0)
        disk.gate.set()
        assert (await client.answer()).status == 200
        await pass_time(monkeypatch, 70.0)
        assert await client.reader.read() == b""  # now it is idle


async def test_without_the_fast_lane_everything_is_as_before(tmp_path: Path, taken: list[str]) -> None:
    async with running(tmp_path, fast_lane=False) as one:
        client = await connect(one)
        assert (await client.ask(keep_alive())).status == 200
        assert not taken


async def test_an_aiohttp_that_is_built_otherwise_turns_it_off(
    tmp_path: Path, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fast_lane.missing_attributes() == []
    monkeypatch.setattr(fast_lane, "_ATTRIBUTES", frozenset({"_no_such_thing"}))
    assert fast_lane.missing_attributes() == ["_no_such_thing"]
    async with running(tmp_path) as one:
        client = await connect(one)
        assert (await client.ask(keep_alive())).status == 200
        assert not taken
