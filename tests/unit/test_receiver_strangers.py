"""Connections before they have anything to say, and bodies that are not worth reading; on both lanes."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from receiver import fast_lane as fast_lane_module
from receiver import server
from receiver.connection import Connection

from .kept import Kept, connected, kept
from .receivers import BODY, SUCCESS, TOKEN, WRONG_TOKEN, Answered, Running, post, running, until
from .test_receiver_fast_lane import SlowDisk


@pytest.fixture(params=[True, False], ids=["fast", "ordinary"])
def fast_lane(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@asynccontextmanager
async def silent(one: Running, count: int) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """Open connections that say nothing, and wait until the receiver has them."""
    before = one.receiver._server.open.count
    port = one.receiver.port
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    try:
        await until(lambda: one.receiver._server.open.count == before + count)
        yield streams
    finally:
        for _, writer in streams:
            writer.transport.abort()


async def test_who_says_nothing_gets_no_parser_and_no_task(tmp_path: Path, fast_lane: bool) -> None:
    def handlers() -> list[str]:  # and not those of a publisher that tries to connect
        names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]
        return [name for name in names if "RequestHandler" in name]

    gc.collect()  # what earlier tests have left
    async with running(tmp_path, fast_lane=fast_lane) as one:
        async with silent(one, 20) as streams:
            assert not [thing for thing in gc.get_objects() if isinstance(thing, Connection)]
            assert not handlers()
            assert (await Kept(*streams[3]).ask(kept())).body == SUCCESS
            assert len(handlers()) == 1
        await until(lambda: one.receiver._server.open.count == 0)


async def test_the_first_callback_of_a_connection_takes_the_fast_lane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[bool] = []
    takes = fast_lane_module.FastLane._takes_parsed

    def noted(*arguments: object) -> bool:
        taken.append(takes(*arguments))  # type: ignore[arg-type]
        return taken[-1]

    monkeypatch.setattr(fast_lane_module.FastLane, "_takes_parsed", noted)
    async with running(tmp_path) as one, silent(one, 1) as ((reader, writer),):
        assert (await Kept(reader, writer).ask(kept())).body == SUCCESS
    assert taken == [True]


async def test_first_words_in_pieces_keep_their_order(tmp_path: Path, fast_lane: bool) -> None:
    async with running(tmp_path, fast_lane=fast_lane) as one, silent(one, 1) as ((reader, writer),):
        (stranger,) = one.receiver._server.open._strangers
        body = bytes(range(256)) * 400
        request = kept(body)
        for at in range(0, 1_000, 10):  # uvloop reads on within one turn
            stranger.data_received(request[at : at + 10])
        writer.write(request[1_000:])
        assert (await Kept(reader, writer).ask(b"")).body == SUCCESS
        assert [callback.body for callback in one.journaled()] == [body]


async def test_silence_has_an_end(tmp_path: Path, fast_lane: bool) -> None:
    began = time.monotonic()
    async with running(tmp_path, fast_lane=fast_lane, keepalive_s=1.0) as one, silent(one, 3) as streams:
        for reader, _ in streams:
            async with asyncio.timeout(60):
                assert await reader.read() == b""
        assert time.monotonic() - began >= 1.0
        await until(lambda: one.receiver._server.open.count == 0)
        async with silent(one, 1) as ((reader, _),), asyncio.timeout(60):
            assert await reader.read() == b""


async def test_a_stop_does_not_wait_for_who_says_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as one, silent(one, 3) as streams:
        one.stop.set()
        for reader, _ in streams:
            async with asyncio.timeout(60):
                assert await reader.read() == b""


async def test_who_speaks_goes_behind_who_is_silent(tmp_path: Path, fast_lane: bool) -> None:
    async with running(tmp_path, strangers_cap=2, fast_lane=fast_lane) as one, silent(one, 1) as ((reader, writer),):
        speaks = Kept(reader, writer)
        async with silent(one, 1) as ((quiet, _),):
            assert (await speaks.ask(kept(token=WRONG_TOKEN))).status == 404
            async with connected(one):
                async with asyncio.timeout(60):
                    assert await quiet.read() == b""
                assert (await speaks.ask(kept(token=WRONG_TOKEN))).status == 404


async def test_no_http_behind_a_callback_waits_for_its_answer(tmp_path: Path, fast_lane: bool) -> None:
    disk = SlowDisk()
    async with running(tmp_path, disk=disk, fast_lane=fast_lane) as one, connected(one) as client:
        disk.gate.clear()
        client.writer.write(kept())
        await until(lambda: one.receiver.callbacks.in_flight == 1)
        for _ in range(2):
            client.writer.write(b"\x16\x03\x01 no http\r\n\r\n")
            await asyncio.sleep(0.02)
        disk.gate.set()
        assert (await client.ask(b"")).body == SUCCESS
        assert (await client.ask(b"")).status == 400
        assert await client.reader.read() == b""
        assert one.receiver.counts.bad_requests == 1


@pytest.mark.parametrize("token", [TOKEN, WRONG_TOKEN], ids=["good", "wrong"])
@pytest.mark.parametrize("declared", ["Content-Length: 10000000000", "Transfer-Encoding: chunked"])
async def test_a_refused_body_without_a_near_end_is_not_read(
    tmp_path: Path, fast_lane: bool, token: str, declared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_LINGER_S", 600.0)
    async with running(tmp_path, fast_lane=fast_lane, body_timeout_s=600, body_cap_bytes=100_000) as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.receiver.port)
        writer.write(f"POST /callbacks/{token} HTTP/1.1\r\nHost: x\r\n{declared}\r\n\r\n".encode() + b"30000\r\n")
        writer.write(b"x" * 150_000)
        async with asyncio.timeout(60):
            answer = await reader.readuntil(b"}")
            assert Answered(answer).status == (413 if token == TOKEN else 404)
            with pytest.raises(ConnectionError):
                await _write_on(writer)  # reading on would take ten minutes
        writer.close()


async def _write_on(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * 10_000)
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("token", [TOKEN, WRONG_TOKEN], ids=["good", "wrong"])
async def test_who_is_a_little_over_the_cap_can_say_all_and_read_the_answer(
    tmp_path: Path, fast_lane: bool, token: str
) -> None:
    async with running(tmp_path, fast_lane=fast_lane) as one:
        answer = Answered(await one.raw(*_pieces(post(BODY + b" " * 3_000_000, token))))
        assert answer.status == (413 if token == TOKEN else 404)


def _pieces(request: bytes) -> list[bytes]:
    return [request[at : at + 100_000] for at in range(0, len(request), 100_000)]
