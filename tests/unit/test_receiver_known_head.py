"""A head that was read before is compared, not parsed: what follows is what the parser would have said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.callbacks import Callbacks
from receiver.known_head import KnownHead, message_bytes
from receiver.tokens import ActiveToken

from .kept import Kept, connected, kept
from .receivers import BODY, OTHER_TOKEN, TOKEN, WRONG_TOKEN, Running, merchants, running, until
from .test_receiver_fast_lane import SlowDisk

OTHER_BODY = BODY.replace(b"1", b"123456")
REQUEST = kept(headers="X-Forwarded-For: 203.0.113.1\r\n")
SMUGGLED = kept(b"smuggled")


@pytest.fixture
def matched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths that were matched on the fast lane: those of heads that were not known."""
    paths: list[str] = []
    match = Callbacks.match

    def noting(self: Callbacks, method: str, path: str) -> ActiveToken | None:
        paths.append(path)
        return match(self, method, path)

    monkeypatch.setattr(Callbacks, "match", noting)
    return paths


def parsed(data: bytes) -> list[tuple[RawRequestMessage, bytes]]:
    """Return what aiohttp's parser makes of it, whole messages alone."""
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(BaseProtocol(loop), loop, 1 << 16, max_headers=100)
        messages, _, _ = parser.feed_data(data)
        return [
            (message, b"".join(getattr(payload, "_buffer", ()))) for message, payload in messages if payload.is_eof()
        ]
    except HttpProcessingError:
        return []
    finally:
        loop.close()


def headers_of(message: RawRequestMessage) -> list[tuple[str, str]]:
    return [(name, value) for name, value in message.headers.items() if name.lower() != "content-length"]


def _known(body: bytes) -> bytes:
    return kept(body, headers="X-Forwarded-For: 203.0.113.1\r\n")


pieces = st.one_of(
    st.binary(max_size=3),
    st.sampled_from([b"\r\n", b"\n", b"\r", b"0", b"9", b"1" * 20, b" ", b"+", b"Content-Length: 3\r\n", REQUEST]),
)


@given(at=st.integers(0, len(REQUEST)), gone=st.integers(0, 3), piece=pieces, body=st.binary(max_size=200))
@example(at=len(REQUEST), gone=0, piece=b"", body=b"")
@example(at=0, gone=0, piece=b"\r\n", body=b"")
def test_whatever_is_taken_for_a_known_head_is_parsed_alike(at: int, gone: int, piece: bytes, body: bytes) -> None:
    request = _known(body)
    changed = request[:at] + piece + request[at + gone :]
    head = KnownHead.of(REQUEST)
    assert head is not None
    assert head.body(request) == body
    taken = head.body(changed)
    if taken is not None:
        ((message, parsed_body),) = parsed(changed)
        ((known, _),) = parsed(REQUEST)
        assert parsed_body == taken
        assert (message.method, message.path, message.version) == (known.method, known.path, known.version)
        assert headers_of(message) == headers_of(known)


@given(at=st.integers(0, len(REQUEST)), gone=st.integers(0, 3), piece=pieces)
@example(at=0, gone=0, piece=b"\r\n")
def test_a_length_is_told_where_nobody_could_read_it_otherwise(at: int, gone: int, piece: bytes) -> None:
    changed = REQUEST[:at] + piece + REQUEST[at + gone :]
    for message, body in parsed(changed)[:1]:
        size = message_bytes(changed, message)
        if 0 <= size <= len(changed):
            assert parsed(changed[:size])[0][1] == body
            assert not parsed(changed[: size - 1])
            assert len(parsed(changed[:size] + SMUGGLED)) == 2


def test_a_long_head_is_not_kept() -> None:
    assert KnownHead.of(kept(headers=f"X: {'x' * 5_000}\r\n")) is None
    assert KnownHead.of(kept(headers=f"X: {'x' * 3_000}\r\n")) is not None


async def learnt(client: Kept, matched: list[str], request: bytes = REQUEST) -> None:
    """Have the connection know the head."""
    assert (await client.ask(request)).status == 200
    before = len(matched)
    assert (await client.ask(request)).status == 200
    assert len(matched) == before


async def test_a_known_head_may_bring_bodies_of_any_length(tmp_path: Path, matched: list[str]) -> None:
    bodies = [BODY, b"", OTHER_BODY, b"x" * 9, b"x" * 10, b"x" * 60_000, b"\r\n\r\n", BODY]
    async with running(tmp_path) as one, connected(one) as client:
        await learnt(client, matched, kept())
        matched.clear()
        answers = [await client.ask(kept(body)) for body in bodies]
        assert not matched
        assert len({(answer.status, answer.body) for answer in answers}) == 1
        assert [entry.body for entry in one.journaled()] == [BODY, BODY, *bodies]
        assert one.receiver.counts.traffic["demo"].acknowledged == 2 + len(bodies)


def at_length(value: bytes, headers: bytes = b"") -> bytes:
    """Return a request with this for its length, and behind its body one that is smuggled if it is read otherwise."""
    head, _, body = REQUEST.partition(b"\r\n\r\n")
    lines = [b"Content-Length: " + value if b"Content-Length" in line else line for line in head.split(b"\r\n")]
    return b"\r\n".join(lines) + b"\r\n" + headers + b"\r\n" + body + SMUGGLED


SIZE = b"%d" % len(BODY)
SHAPES = {
    "pipelined": at_length(SIZE),
    "plus": at_length(b"+" + SIZE),
    "zeros in front": at_length(b"0" + SIZE),
    "twice in one": at_length(SIZE + b", " + SIZE),
    "hexadecimal": at_length(b"0x23"),
    "negative": at_length(b"-1"),
    "none": at_length(b""),
    "blanks": at_length(b"  " + SIZE + b" "),
    "all that came": at_length(b"%d" % (len(BODY) + len(SMUGGLED))),
    "one less": at_length(b"%d" % (len(BODY) - 1)),
    "too long a number": at_length(b"9" * 30),
    "a second length": at_length(SIZE, b"Content-Length: 0\r\n"),
    "chunked too": at_length(SIZE, b"Transfer-Encoding: chunked\r\n"),
    "obscured chunked": at_length(SIZE, b"Transfer-Encoding : chunked\r\n"),
    "folded": at_length(SIZE, b" folded: yes\r\n"),
    "lone LF": at_length(SIZE).replace(b"\r\n\r\n", b"\n\n", 1),
    "lone CR": at_length(SIZE).replace(b"\r\n\r\n", b"\r\r", 1),
    "LF in front": b"\n" + at_length(SIZE),
    "CRLF in front": b"\r\n" + at_length(SIZE),
}


SHORT = {"keepalive_s": 1.0, "body_timeout_s": 1.0}


async def _outcome(one: Running, client: Kept, request: bytes) -> tuple[bytes, list[bytes]]:
    """Return all that was answered, but dates, until the connection is closed, and all that was stored."""
    stored = len(one.journaled())
    client.writer.write(request)
    async with asyncio.timeout(60):
        answers = await client.reader.read()
    return b"\n".join(line for line in answers.split(b"\r\n") if not line.startswith(b"Date")), [
        entry.body for entry in one.journaled()[stored:]
    ]


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_smuggler_is_answered_as_without_a_known_head(tmp_path: Path, matched: list[str], shape: str) -> None:
    for name in ("fast", "ordinary"):
        (tmp_path / name).mkdir()
    async with (
        running(tmp_path / "fast", **SHORT) as fast,
        running(tmp_path / "ordinary", fast_lane=False, **SHORT) as ordinary,
        connected(fast) as knowing,
    ):
        await learnt(knowing, matched)
        knows = asyncio.create_task(_outcome(fast, knowing, SHAPES[shape]))
        await asyncio.sleep(0)  # so that it is not taken for idle while the other one connects
        async with connected(ordinary) as client:
            expected = await _outcome(ordinary, client, SHAPES[shape])
        got = await knows
        assert got == expected
        assert got[0]


async def _in_pieces(client: Kept, request: bytes, *cuts: int) -> int:
    for begin, end in zip((0, *cuts), (*cuts, len(request)), strict=True):
        client.writer.write(request[begin:end])
        await asyncio.sleep(0.02)  # so that they come one by one
    return (await client.ask(b"")).status


async def test_a_callback_in_pieces_is_stored_once_and_then_the_head_is_known_again(
    tmp_path: Path, matched: list[str]
) -> None:
    async with running(tmp_path) as one, connected(one) as client:
        await learnt(client, matched)
        head_bytes = REQUEST.index(b"\r\n\r\n") + 4
        for cuts in ((head_bytes,), (head_bytes + 1,), (head_bytes, head_bytes + 3), (len(REQUEST) - 1,)):
            assert await _in_pieces(client, REQUEST, *cuts) == 200
            await learnt(client, matched)
        assert len(one.journaled()) == 2 + 4 * 3


@pytest.mark.parametrize("cut", [1, 30, len(REQUEST) - len(BODY) - 1])
async def test_a_head_in_pieces_is_the_parsers(tmp_path: Path, matched: list[str], cut: int) -> None:
    async with running(tmp_path) as one, connected(one) as client:
        await learnt(client, matched)
        assert await _in_pieces(client, REQUEST, cut) == 200
        assert (await client.ask(REQUEST)).status == 200
        assert [entry.body for entry in one.journaled()] == [BODY] * 4


async def test_a_known_head_within_a_head_is_none(tmp_path: Path, matched: list[str]) -> None:
    async with running(tmp_path) as one, connected(one) as client:
        await learnt(client, matched)
        begun = f"POST /callbacks/{WRONG_TOKEN} HTTP/1.1\r\nX-Rest: ".encode()
        assert await _in_pieces(client, begun + REQUEST, len(begun)) == 404
        assert len(one.journaled()) == 2


async def test_known_ones_behind_one_that_waits_are_answered_in_order(tmp_path: Path, matched: list[str]) -> None:
    disk = SlowDisk()
    async with running(tmp_path, disk) as one, connected(one) as client:
        await learnt(client, matched)
        disk.gate.clear()
        ordinary = kept(b"2", headers="Expect: nothing\r\n")
        for request in (_known(b"1"), ordinary, kept(token=WRONG_TOKEN), _known(b"3"), _known(b"4") + _known(b"5")):
            client.writer.write(request)
            await asyncio.sleep(0.02)  # so that they come one by one
        disk.gate.set()
        assert [(await client.ask(b"")).status for _ in range(6)] == [200, 200, 404, 200, 200, 200]
        assert [entry.body for entry in one.journaled()[2:]] == [b"1", b"2", b"3", b"4", b"5"]


async def test_a_retired_token_is_refused_though_its_head_is_known(tmp_path: Path, matched: list[str]) -> None:
    async with running(tmp_path) as one, connected(one) as client:
        await learnt(client, matched)
        (tmp_path / "merchants.toml").write_text(merchants(("acme", "t-2", OTHER_TOKEN)))
        one.receiver.reload()
        assert (await client.ask(REQUEST)).status == 404
        (tmp_path / "merchants.toml").write_text(merchants(("other", "t-1", TOKEN)))
        one.receiver.reload()
        await learnt(client, matched)
        assert [entry.merchant for entry in one.journaled()] == ["demo", "demo", "other", "other"]


async def test_another_head_on_the_same_connection_is_its_own(tmp_path: Path, matched: list[str]) -> None:
    async with running(tmp_path) as one, connected(one) as client:
        await learnt(client, matched)
        assert (await client.ask(kept(token=WRONG_TOKEN))).status == 404
        assert (await client.ask(kept(token=OTHER_TOKEN))).status == 200
        assert (await client.ask(REQUEST)).status == 200
        assert [entry.merchant for entry in one.journaled()] == ["demo", "demo", "acme", "demo"]


async def test_the_door_is_asked_of_a_known_head_too(tmp_path: Path, matched: list[str]) -> None:
    changes = {"allowed_networks": "203.0.113.0/24", "trusted_proxies": "127.0.0.0/8"}
    async with running(tmp_path, **changes) as one, connected(one) as client:
        await learnt(client, matched)
        assert one.receiver.callbacks.door is not None
        object.__setattr__(one.receiver.callbacks.door, "allowed", (ip_network("198.51.100.0/24"),))
        assert (await client.ask(REQUEST)).status == 404


async def test_the_cap_on_what_is_under_way_holds_for_a_known_head(
    tmp_path: Path, matched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, in_flight_cap=1) as one, connected(one) as client:
        await learnt(client, matched)
        monkeypatch.setattr(one.receiver.callbacks, "in_flight", 1)
        assert (await client.ask(REQUEST)).status == 503


async def test_a_known_head_is_told_to_close_by_a_receiver_that_stops(
    tmp_path: Path, matched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[Callable[[], None]] = []
    async with running(tmp_path) as one, connected(one) as client:
        await learnt(client, matched)
        store = Callbacks.store
        monkeypatch.setattr(Callbacks, "store", lambda self, *given: stored.append(lambda: store(self, *given)))
        client.writer.write(REQUEST)
        await until(lambda: stored)
        one.stop.set()
        await until(lambda: one.receiver._server.draining)
        stored[0]()
        answer = await client.ask(b"")
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
