from __future__ import annotations

import asyncio
import errno
import gzip
import os
import re
import threading
from pathlib import Path

import aiohttp
import pytest

from receiver.journal import Disk, JournalLimits
from tests.unit.receivers import (
    BODY,
    OTHER_TOKEN,
    SUCCESS,
    TOKEN,
    WRONG_TOKEN,
    Answered,
    post,
    running,
    until,
)

DOCUMENTED = (Path(__file__).parent / "data" / "documented-body.txt").read_bytes()


async def test_200_is_exactly_what_blu_documents_and_the_bytes_are_in_the_journal(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        answer = await one.post(DOCUMENTED)
        assert answer.status == 200
        assert answer.body == SUCCESS
        assert answer.headers["Content-Type"] == "application/json"
        assert "Server" not in answer.headers
        (callback,) = one.journaled()
        assert (callback.merchant, callback.body) == ("demo", DOCUMENTED)


async def test_the_same_body_six_times_is_acknowledged_six_times(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        assert [(await one.post(DOCUMENTED)).status for _ in range(6)] == [200] * 6
        assert len(one.journaled()) == 6


@pytest.mark.parametrize(
    "body",
    [
        b"",
        os.urandom(2_000),
        DOCUMENTED[:50],
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"taskId":1,"records":[]}',
        gzip.compress(b"0" * 1_000_000),
        b"x" * 1_000_000,
    ],
    ids=["nothing", "random", "cut off", "not UTF-8", "brackets", "no records", "compressed", "at the cap"],
)
async def test_whatever_a_good_token_brings_is_acknowledged_and_kept_as_it_came(tmp_path: Path, body: bytes) -> None:
    async with running(tmp_path) as one:
        answer = await one.post(body, headers="Content-Encoding: gzip\r\nContent-Type: text/nonsense\r\n")
        assert (answer.status, answer.body) == (200, SUCCESS)
        assert [callback.body for callback in one.journaled()] == [body]


@pytest.mark.parametrize(
    "headers",
    [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",  # Java's client
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "Expect: 100-continue\r\n",
        "Expect: something-else\r\n",
        "X-Forwarded-For: 1.2.3.4\r\nAuthorization: Bearer x\r\n",
    ],
)
async def test_unusual_headers_change_nothing(tmp_path: Path, headers: str) -> None:
    request = f"POST /callbacks/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n{headers}\r\n".encode()
    async with running(tmp_path, keepalive_s=1.0) as one:
        answer = await one.raw(request + BODY)
        assert SUCCESS in answer
        assert [callback.body for callback in one.journaled()] == [BODY]


@pytest.mark.parametrize(
    "start",
    [
        f"POST /callbacks/{TOKEN}?a=b HTTP/1.1",
        f"POST http://somewhere/callbacks/{TOKEN} HTTP/1.1",
        f"POST /callbacks/{TOKEN} HTTP/1.0",
        f"POST /callbacks/{OTHER_TOKEN} HTTP/1.1",
    ],
)
async def test_every_form_of_the_address_is_taken(tmp_path: Path, start: str) -> None:
    async with running(tmp_path) as one:
        request = f"{start}\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
        assert (await one.ask(request)).status == 200


async def test_the_sender_is_asked_for_the_body_where_it_waits_for_that(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.receiver.port)
        head, _, body = post(BODY, headers="Expect: 100-continue\r\n").partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        async with asyncio.timeout(60):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            assert Answered(await reader.read()).status == 200
        writer.close()


async def test_a_chunked_body_is_put_together(tmp_path: Path) -> None:
    head = f"POST /callbacks/{TOKEN} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with running(tmp_path) as one:
        answer = await one.raw(head.encode(), b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")
        assert SUCCESS in answer
        assert [callback.body for callback in one.journaled()] == [b"abcde"]


async def test_pipelined_callbacks_are_answered_in_order(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        requests = b"".join(post(b"%d" % number).replace(b"Connection: close\r\n", b"") for number in range(50))
        answer = await one.raw(requests + post(b"last"))
        assert answer.count(SUCCESS) == 51
        assert [callback.body for callback in one.journaled()] == [b"%d" % number for number in range(50)] + [b"last"]


def miss(method: str, path: str, body: bytes = BODY) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def test_one_uniform_404_for_every_miss(tmp_path: Path) -> None:
    misses = [
        miss("POST", f"/callbacks/{WRONG_TOKEN}"),
        miss("POST", "/callbacks/short"),
        miss("POST", "/callbacks/"),
        miss("POST", f"/callbacks/{TOKEN}/"),
        miss("POST", f"/callbacks/{TOKEN}x"),
        miss("POST", f"/callbacks/{TOKEN[:-1]}"),
        miss("POST", f"/Callbacks/{TOKEN}"),
        miss("POST", f"/{TOKEN}"),
        miss("POST", TOKEN),
        miss("POST", "/callbacks/%ff%00\x7f"),
        miss("POST", "/"),
        miss("GET", f"/callbacks/{TOKEN}", b""),
        miss("PUT", f"/callbacks/{TOKEN}"),
        miss("DELETE", f"/callbacks/{TOKEN}"),
        miss("OPTIONS", "*", b""),
        miss("GET", "/metrics", b""),
        miss("GET", "/healthz", b""),
        miss("PATCH", "/admin.php?x=1"),
    ]
    async with running(tmp_path) as one:
        answers = [await one.ask(request) for request in misses]
        not_http = {index for index, answer in enumerate(answers) if answer.status == 400}
        seen = {repr(answer.without_date()) for index, answer in enumerate(answers) if index not in not_http}
        assert len(seen) == 1, seen
        assert answers[0].status == 404
        assert "WWW-Authenticate" not in answers[0].headers
        assert not one.journaled()
        assert not_http <= {8, 9}  # a path without a slash, a control character: not HTTP for the parser
        head = await one.ask(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (head.status, head.body) == (404, b"")
        assert head.headers.keys() == answers[0].headers.keys()
        assert one.receiver.counts.not_found == len(misses) - len(not_http) + 1


async def test_a_body_over_the_cap_is_413_at_once_when_it_is_declared(tmp_path: Path) -> None:
    head = f"POST /callbacks/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n".encode()
    async with running(tmp_path) as one:
        answer = Answered(await one.raw(head))
        assert answer.status == 413
        assert answer.headers["Connection"] == "close"
        assert one.receiver.counts.refused == {"too-large": 1}
        assert not one.journaled()


async def test_a_body_over_the_cap_is_413_when_it_only_turns_out_so(tmp_path: Path) -> None:
    head = f"POST /callbacks/{TOKEN} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    async with running(tmp_path, body_cap_bytes=1_000) as one:
        answer = Answered(await one.raw(head, b"258\r\n" + b"x" * 600 + b"\r\n", b"258\r\n" + b"x" * 600 + b"\r\n"))
        assert answer.status == 413
        assert Answered(await one.raw(post(b"x" * 1_001))).status == 413
        assert (await one.post(b"x" * 1_000)).status == 200


async def test_a_body_that_does_not_come_is_408_and_the_end_of_the_connection(tmp_path: Path) -> None:
    async with running(tmp_path, body_timeout_s=0.2) as one:
        began = asyncio.get_running_loop().time()
        answer = Answered(await one.raw(post(BODY)[:-5]))
        assert asyncio.get_running_loop().time() - began < 4.5
        assert answer.status == 408
        assert answer.headers["Connection"] == "close"
        assert one.receiver.counts.refused == {"too-slow": 1}


async def test_a_sender_that_goes_away_is_counted(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        _, writer = await asyncio.open_connection("127.0.0.1", one.receiver.port)
        writer.write(post(BODY)[:-5])
        await writer.drain()
        await until(lambda: one.receiver.callbacks.in_flight == 1)
        writer.close()
        await until(lambda: one.receiver.counts.refused == {"disconnected": 1})
        assert not one.journaled()


async def test_a_full_journal_is_503_with_retry_after_and_mends_itself(tmp_path: Path) -> None:
    async with running(tmp_path, journal_quota_bytes=200_000, journal_segment_bytes=50_000) as one:
        answers = [await one.post(b"x" * 10_000) for _ in range(30)]
        statuses = [answer.status for answer in answers]
        assert set(statuses) == {200, 503}
        assert len(one.journaled()) == statuses.count(200)
        refused = answers[-1]
        assert refused.status == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert one.receiver.counts.refused == {"journal-full": statuses.count(503)}
        ready = await one.ask(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", admin=True)
        assert ready.status == 503
        assert b"journal-full" in ready.body
        one.receiver.journal.mark_published(one.receiver.journal.last)
        await until(lambda: not one.receiver.journal.full)
        assert (await one.post()).status == 200


class StallingDisk(Disk):
    """Takes nothing until it is let go."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self.free.wait(120)
        os.fdatasync(fd)


async def test_a_disk_that_is_too_slow_is_503_within_its_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(JournalLimits.__init__.__kwdefaults__, "commit_budget_s", 0.5)  # type: ignore[misc]
    disk = StallingDisk()
    async with running(tmp_path, disk) as one:
        disk.free.clear()
        answer = await one.post()
        disk.free.set()
        assert answer.status == 503
        assert one.receiver.counts.refused == {"journal-slow": 1}
        await until(lambda: one.receiver.journal.last == 1)
        async with asyncio.timeout(60):
            while (await one.post()).status != 200:
                pass


class FailingDisk(Disk):
    """Reports an I/O error once it is told to."""

    broken = False

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        if self.broken:
            raise OSError(errno.EIO, "I/O error")
        os.fdatasync(fd)


async def test_a_disk_that_fails_is_503_for_those_who_wait_and_the_end_of_the_process(tmp_path: Path) -> None:
    disk = FailingDisk()
    async with running(tmp_path, disk) as one:
        assert (await one.post()).status == 200
        disk.broken = True
        answers = await asyncio.gather(*(one.post() for _ in range(20)), return_exceptions=True)
        answered = [answer for answer in answers if isinstance(answer, Answered) and answer.status]
        assert answered
        assert {answer.status for answer in answered} == {503}
    assert one.exit_code == 75
    async with running(tmp_path) as again:
        assert BODY in [callback.body for callback in again.journaled()]


async def test_more_than_the_cap_at_once_is_503(tmp_path: Path) -> None:
    async with running(tmp_path, in_flight_cap=2, body_timeout_s=20) as one:
        waiting = [await asyncio.open_connection("127.0.0.1", one.receiver.port) for _ in range(2)]
        for _, writer in waiting:
            writer.write(post(BODY)[:-5])
            await writer.drain()
        await until(lambda: one.receiver.callbacks.in_flight == 2)
        assert (await one.post()).status == 503
        for reader, writer in waiting:
            writer.write(BODY[-5:])
            assert Answered(await reader.read()).status == 200
            writer.close()
        assert (await one.post()).status == 200


async def test_no_answer_is_ever_429(tmp_path: Path) -> None:
    async with running(tmp_path, keepalive_s=5, in_flight_cap=3) as one, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{one.receiver.port}/callbacks/{TOKEN}"

        async def status() -> int:
            async with session.post(url, data=BODY) as answer:
                return answer.status

        assert set(await asyncio.gather(*(status() for _ in range(300)))) <= {200, 503}


LINE = f"POST /callbacks/{TOKEN} HTTP/1.1\r\nHost: x\r\n".encode()
MALFORMED = {
    "wrong version": f"POST /callbacks/{TOKEN} HTTP/9.9\r\nHost: x\r\n\r\n".encode(),
    "no method": f"/callbacks/{TOKEN} HTTP/1.1\r\n\r\n".encode(),
    "odd method": f"P(ST /callbacks/{TOKEN} HTTP/1.1\r\n\r\n".encode(),
    "control characters": f"POST /callbacks/{TOKEN}\x01\x02 HTTP/1.1\r\n\r\n".encode(),
    "spaces in the path": f"POST /callbacks/{TOKEN} {TOKEN} HTTP/1.1\r\n\r\n".encode(),
    "path too long": f"POST /callbacks/{TOKEN}{'x' * 9_000} HTTP/1.1\r\n\r\n".encode(),
    "header too long": LINE + b"X: " + TOKEN.encode() * 300 + b"\r\n\r\n",
    "too many headers": LINE + b"".join(b"X-%d: 1\r\n" % number for number in range(200)) + b"\r\n",
    "header without colon": LINE + TOKEN.encode() + b"\r\n\r\n",
    "space before colon": LINE + b"Content-Length : 2\r\n\r\n{}",
    "folded header": LINE + b"X: a\r\n b\r\n\tc: \r\nContent-Length: 2\r\n\r\n{}",
    "both lengths": LINE + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    "two lengths": LINE + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "signed length": LINE + b"Content-Length: +2\r\n\r\n{}",
    "unknown encoding": LINE + b"Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "bad chunk": LINE + b"Transfer-Encoding: chunked\r\n\r\n" + TOKEN.encode() + b"\r\n",
    "bare line feeds": f"POST /callbacks/{TOKEN} HTTP/1.1\nHost: x\nContent-Length: 2\n\n{{}}".encode(),
    "null bytes": b"\0" * 100 + LINE,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + TOKEN.encode(),
    "CONNECT": f"CONNECT {TOKEN}:443 HTTP/1.1\r\nHost: {TOKEN}\r\n\r\n".encode(),
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_not_http_is_told_nothing(
    tmp_path: Path, request_bytes: bytes, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, keepalive_s=1.0, body_timeout_s=1.0) as one:
        answer = await one.raw(request_bytes)
        assert TOKEN.encode() not in answer
        assert re.search(rb"^HTTP/1.1 (400|404|408) ", answer), answer
        assert b"Server:" not in answer
        assert b"Traceback" not in answer
        assert not one.journaled(), "smuggled"
        assert (await one.post()).status == 200, "others are served on"
    output = capfd.readouterr()
    assert TOKEN not in output.out + output.err + caplog.text
    assert "Traceback" not in caplog.text


async def test_a_bug_in_the_handler_is_503_and_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running(tmp_path) as one:

        async def broken(_merchant: str, body: bytes, _received_ms: int) -> int:
            raise ValueError(body.decode() + TOKEN)

        one.receiver.journal.append = broken  # type: ignore[method-assign]
        answer = await one.post(b"canary-body")
        assert answer.status == 503
        assert answer.headers["Retry-After"]
        assert b"canary" not in answer.bytes
        assert one.receiver.counts.refused == {"internal": 1}
        del one.receiver.journal.append
    output = capfd.readouterr()
    assert "canary" not in output.out + output.err + caplog.text
    assert "ValueError" in output.out


async def test_a_connection_is_kept_and_closed_when_idle(tmp_path: Path) -> None:
    async with running(tmp_path, keepalive_s=1.0) as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.receiver.port)
        for _ in range(3):
            writer.write(post().replace(b"Connection: close\r\n", b""))
            async with asyncio.timeout(60):
                await reader.readuntil(SUCCESS)
        async with asyncio.timeout(60):
            assert await reader.read() == b""
        writer.close()


async def test_headers_that_never_end_are_cut_off(tmp_path: Path) -> None:
    async with running(tmp_path, keepalive_s=0.3) as one:
        assert await one.raw(b"POST /callbacks/x HTTP/1.1\r\nHost: x\r\nX: ") == b""


async def test_the_admin_port(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        await one.post()
        answers = {
            path: await one.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode(), admin=True)
            for path in ("/healthz", "/readyz", "/metrics", "/", "/callbacks/x")
        }
        assert {path: answer.status for path, answer in answers.items()} == {
            "/healthz": 200,
            "/readyz": 200,
            "/metrics": 200,
            "/": 404,
            "/callbacks/x": 404,
        }
        for answer in answers.values():
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "no-store"
            assert "Content-Security-Policy" in answer.headers
            assert "Server" not in answer.headers
        assert 'callbacks_acknowledged_total{merchant="demo"} 1.0' in answers["/metrics"].body.decode()
        wrong = await one.ask(miss("POST", "/metrics"), admin=True)
        assert wrong.status == 404
