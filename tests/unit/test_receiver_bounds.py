"""What a stranger may take of us: connections, headers, unread answers, time; on both lanes."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from pathlib import Path

import pytest

from receiver import connection as connection_module
from receiver.app import _strangers_cap
from receiver.stalls import Stalls

from .kept import Kept, connected, kept
from .receivers import BODY, SUCCESS, TOKEN, WRONG_TOKEN, Answered, post, running, settings, until


@pytest.fixture(params=[True, False], ids=["fast", "ordinary"])
def fast_lane(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize(
    "start",
    [
        f"POST /callbacks/{TOKEN}\r\n\r\n",
        f"GET /{TOKEN}\r\n\r\n",
        f"POST /callbacks/{TOKEN} HTTP/0.9\r\n\r\n",
        f"POST /callbacks/{TOKEN} HTTP/2.0\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}",
        f"PRI * HTTP/2.0\r\nX: {TOKEN}\r\n\r\nSM\r\n\r\n",
    ],
    ids=["0.9", "0.9 GET", "0.9 said", "2.0", "HTTP/2"],
)
@pytest.mark.parametrize("admin", [False, True], ids=["callbacks", "admin"])
async def test_other_versions_of_http_are_no_http(tmp_path: Path, start: str, admin: bool, fast_lane: bool) -> None:
    async with running(tmp_path, fast_lane=fast_lane) as one:
        answer = await one.raw(start.encode(), admin=admin)
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        assert TOKEN.encode() not in answer
        assert b"\r\nConnection: close\r\n" in answer
        assert not one.journaled()
        assert admin or one.receiver.counts.bad_requests == 1


async def test_an_invitation_that_nobody_reads_is_within_the_time_for_a_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stuck(_request: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr("receiver.body._invite", stuck)
    async with running(tmp_path, body_timeout_s=0.2) as one:
        answer = await one.ask(post(BODY, headers="Expect: 100-continue\r\n")[: -len(BODY)])
        assert answer.status == 408


async def test_the_oldest_stranger_goes_and_who_brought_a_callback_stays(tmp_path: Path, fast_lane: bool) -> None:
    async with running(tmp_path, strangers_cap=3, fast_lane=fast_lane) as one, connected(one) as known:
        assert (await known.ask(kept())).body == SUCCESS
        strangers = [await asyncio.open_connection("127.0.0.1", one.receiver.port) for _ in range(5)]
        for reader, _ in strangers[:2]:
            async with asyncio.timeout(60):
                assert await reader.read() == b""
        for reader, writer in strangers[2:]:
            asked = Kept(reader, writer)
            assert (await asked.ask(kept(token=WRONG_TOKEN))).status == 404
        assert (await known.ask(kept())).body == SUCCESS
        newest = Kept(*strangers[-1])
        assert (await newest.ask(kept())).body == SUCCESS
        metrics = (await one.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", admin=True)).body
        assert b"connections_crowded_out_total 2.0" in metrics
        assert b"open_connections 4.0" in metrics
        for _, writer in strangers:
            writer.transport.abort()
        await until(lambda: one.receiver._server.open.count == 1)


async def test_a_slow_body_with_a_good_token_is_no_strangers(tmp_path: Path, fast_lane: bool) -> None:
    async with running(tmp_path, strangers_cap=1, fast_lane=fast_lane) as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.receiver.port)
        writer.write(post()[:-5])
        await until(lambda: one.receiver.callbacks.in_flight == 1)
        async with connected(one), connected(one):
            writer.write(BODY[-5:])
            assert Answered(await reader.read()).status == 200
        writer.close()


@pytest.mark.parametrize("admin", [False, True], ids=["callbacks", "admin"])
async def test_headers_without_an_end_are_refused_long_before_they_are_many(
    tmp_path: Path, fast_lane: bool, admin: bool
) -> None:
    async with running(tmp_path, fast_lane=fast_lane) as one:
        port = one.receiver.admin_port if admin else one.receiver.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        client = Kept(reader, writer)
        for _ in range(2):  # what a whole request took does not count against the next one
            assert (await client.ask(kept(token=WRONG_TOKEN, headers=f"X: {'x' * 8_000}\r\n"))).status == 404
        writer.write(b"POST / HTTP/1.1\r\n")
        for number in range(3):
            writer.write(b"X-%d: " % number + TOKEN.encode() * 180 + b"\r\n")
            await asyncio.sleep(0.02)
        async with asyncio.timeout(60):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert TOKEN.encode() not in answer
        writer.close()


async def test_a_large_body_in_many_pieces_is_no_header(tmp_path: Path, fast_lane: bool) -> None:
    async with running(tmp_path, fast_lane=fast_lane) as one, connected(one) as client:
        whole = kept(b"x" * 900_000)
        for at in range(0, len(whole), 100_000):
            client.writer.write(whole[at : at + 100_000])
            await client.writer.drain()
            await asyncio.sleep(0.005)
        assert (await client.ask(b"")).status == 200


async def post_for_ever(writer: asyncio.StreamWriter, requests: bytes) -> None:
    while True:
        writer.write(requests)
        await writer.drain()


async def test_who_does_not_take_his_answers_is_cut_off(
    tmp_path: Path, fast_lane: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_TAKE_S", 0.2)
    async with running(tmp_path, fast_lane=fast_lane) as one:
        _, writer = await asyncio.open_connection("127.0.0.1", one.receiver.port, limit=1_024)
        writer.transport.pause_reading()
        requests = kept(token=WRONG_TOKEN) * 500
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(post_for_ever(writer, requests), 60)
        await until(lambda: one.receiver._server.open.count == 0)
        assert (await one.post()).status == 200


async def test_a_closed_connection_is_freed_without_the_collector(tmp_path: Path, fast_lane: bool) -> None:
    def held() -> int:
        return sum(isinstance(thing, connection_module.Connection) for thing in gc.get_objects())

    async with running(tmp_path, fast_lane=fast_lane) as one:
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                async with connected(one) as client:
                    assert (await client.ask(kept())).status == 200
                assert b" 400 " in await one.raw(b"POST / HTTP/1.1\r\nX: " + b"x" * 100_000)
            await until(lambda: one.receiver._server.open.count == 0 and held() == 0)
        finally:
            gc.enable()


def test_connections_leave_files_for_the_journal(tmp_path: Path) -> None:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert _strangers_cap(settings(tmp_path, strangers_cap=10**9)) == files // 2
    assert _strangers_cap(settings(tmp_path, strangers_cap=7)) == 7


async def test_a_stall_of_the_loop_is_seen() -> None:
    stalls = Stalls()
    task = asyncio.create_task(stalls.watch())
    await asyncio.sleep(0.03)
    time.sleep(0.5)  # noqa: ASYNC251  # the stall: waiting
    await until(lambda: stalls.late_s.value >= 0.45)
    assert stalls.busy_s.value < 0.4, "it did not compute all that time"
    ends = time.thread_time() + 0.5
    while time.thread_time() < ends:  # the stall: computing
        pass
    await until(lambda: stalls.busy_s.value >= 0.45)
    task.cancel()
    for largest in (stalls.late_s, stalls.busy_s):
        largest.next_slot()
        assert largest.value >= 0.45
        largest.next_slot()
        assert largest.value == 0
