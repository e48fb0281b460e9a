"""The optional header and networks, on both lanes: whoever misses them is told what everyone is told who misses."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from multidict import CIMultiDict
from pydantic import ValidationError

from receiver import door as door_module
from receiver.callbacks import Callbacks
from receiver.door import ADDRESS, HEADER, Door, digest
from receiver.settings import ReceiverSettings

from .kept import connected, kept
from .receivers import SUCCESS, WRONG_TOKEN, running

SECRET = "canary-static-header"


@pytest.fixture(params=["fast", "ordinary"])
def lane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bool]]:
    """The settings of one lane; what is taken there and what is not is checked at the end."""
    stored: list[object] = []
    store = Callbacks.store
    monkeypatch.setattr(Callbacks, "store", lambda self, *given: (stored.append(1), store(self, *given))[1])
    yield {"fast_lane": request.param == "fast"}
    assert bool(stored) == (request.param == "fast")


async def test_a_required_header_is_asked_of_everybody(tmp_path: Path, lane: dict[str, bool]) -> None:
    changes = {"required_header": "X-Blu-Key", "required_header_value": SECRET, **lane}
    async with running(tmp_path, **changes) as one, connected(one) as client:
        good = f"x-blu-key: {SECRET}\r\n"
        answer = await client.ask(kept(headers=good))
        assert (answer.status, answer.body) == (200, SUCCESS)
        miss = await client.ask(kept(token=WRONG_TOKEN, headers=good))
        for headers in ("", f"X-Blu-Key: {SECRET}x\r\n", "X-Blu-Key:\r\n", f"Authorization: {SECRET}\r\n"):
            answer = await client.ask(kept(headers=headers))
            assert answer.without_date() == miss.without_date()
        assert (await client.ask(kept(headers=good))).status == 200
        assert len(one.journaled()) == 2
        assert one.receiver.counts.turned_away == {"header": 4}
        assert one.receiver.counts.traffic["demo"].received == 2
        metrics = await one.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", admin=True)
        assert b'turned_away_total{cause="header"} 4.0' in metrics.body


async def test_only_the_allowed_networks_may_post(tmp_path: Path, lane: dict[str, bool]) -> None:
    changes = {"allowed_networks": "203.0.113.0/24", "trusted_proxies": "127.0.0.0/8,10.0.0.0/8", **lane}
    async with running(tmp_path, **changes) as one, connected(one) as client:
        by = "X-Forwarded-For: "
        miss = await client.ask(kept(token=WRONG_TOKEN))
        for headers in ("", f"{by}198.51.100.1\r\n", f"{by}203.0.113.1, 198.51.100.1\r\n", f"{by}nonsense\r\n"):
            answer = await client.ask(kept(headers=headers))
            assert answer.without_date() == miss.without_date(), headers
        assert one.receiver.counts.turned_away == {"address": 4}
        good = (
            f"{by}203.0.113.1\r\n",
            f"{by}1.2.3.4, 203.0.113.9, 10.1.1.1\r\n",
            f"{by}203.0.113.1\r\n{by}10.0.0.1\r\n",
        )
        for headers in good:
            assert (await client.ask(kept(headers=headers))).status == 200, headers
        assert len(one.journaled()) == 3


async def test_a_sender_that_is_no_proxy_is_not_believed(tmp_path: Path) -> None:
    async with running(tmp_path, allowed_networks="203.0.113.0/24") as one, connected(one) as client:
        assert (await client.ask(kept(headers="X-Forwarded-For: 203.0.113.1\r\n"))).status == 404
    async with running(tmp_path, allowed_networks="127.0.0.1/32") as one, connected(one) as client:
        assert (await client.ask(kept(headers="X-Forwarded-For: 198.51.100.1\r\n"))).status == 200


def sender(forwarded: str | None, peer: str | None = "10.0.0.1") -> str:
    door = Door(trusted=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")))
    headers = CIMultiDict() if forwarded is None else CIMultiDict({"X-Forwarded-For": forwarded})
    return str(door._sender(headers, peer))


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (None, "10.0.0.1"),
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("1.1.1.1, 203.0.113.7,fd00::5 , 10.9.9.9", "203.0.113.7"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("203.0.113.7, unknown", "None"),
        ("203.0.113.7,", "None"),
        ("203.0.113.7" + ", 10.0.0.2" * 17, "None"),
        ("203.0.113.7" + ", 10.0.0.2" * 16, "203.0.113.7"),
    ],
)
def test_the_list_is_read_from_the_right_as_far_as_it_is_trusted(forwarded: str | None, expected: str) -> None:
    assert sender(forwarded) == expected


def test_a_connection_without_an_address_comes_from_nowhere() -> None:
    assert sender("203.0.113.7", None) == "None"
    assert Door(allowed=(ip_network("0.0.0.0/0"),)).refuses(CIMultiDict(), None) == ADDRESS


def test_an_ipv4_sender_on_an_ipv6_socket_is_itself() -> None:
    assert Door(allowed=(ip_network("192.0.2.0/24"),)).refuses(CIMultiDict(), "::ffff:192.0.2.1") is None


def test_the_header_is_compared_in_constant_time_whatever_came(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[tuple[int, int]] = []

    class Noting:
        @staticmethod
        def compare_digest(one: bytes, other: bytes) -> bool:
            lengths.append((len(one), len(other)))
            return hmac.compare_digest(one, other)

    monkeypatch.setattr(door_module, "hmac", Noting)
    door = Door(header="X", header_sha256=digest("right"))
    assert door.refuses(CIMultiDict({"x": "right"}), None) is None
    for headers in ({}, {"X": "wrong"}, {"X": "w" * 1_000}, {"X": "\udcff"}):
        assert door.refuses(CIMultiDict(headers), None) == HEADER
    assert lengths == [(32, 32)] * 5


def test_off_by_default_and_not_half_on() -> None:
    assert ReceiverSettings().door() is None
    for half in (
        {"required_header": "X"},
        {"required_header_value": SECRET},
        {"required_header": "X Y", "required_header_value": SECRET},
        {"required_header": "X", "required_header_value": f" {SECRET}"},
        {"allowed_networks": "10.0.0.1/8"},
        {"trusted_proxies": "everybody"},
        {"tls_cert_file": "cert.pem"},
        {"tls_key_file": "key.pem"},
    ):
        with pytest.raises(ValidationError) as raised:
            ReceiverSettings(**half)
        assert SECRET not in str(raised.value.errors(include_input=False))


def test_the_settings_keep_the_value_to_themselves() -> None:
    settings = ReceiverSettings(required_header="X", required_header_value=SECRET)
    assert SECRET not in repr(settings) + repr(settings.door())
