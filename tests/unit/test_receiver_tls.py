"""TLS with reload, on both lanes; the certificates are made for the test."""

from __future__ import annotations

import asyncio
import signal
import ssl
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
import trustme
from structlog.testing import capture_logs

from receiver import server
from receiver.tls import Tls, TlsFilesError

from .kept import connected, kept
from .receivers import SUCCESS, Running, running, until
from .test_receiver_process import Process, started


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def client_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def write(folder: Path, authority: trustme.CA, **options: object) -> tuple[Path, Path]:
    certificate = authority.issue_cert("localhost", "127.0.0.1", **options)
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    return cert, key


async def metric(one: Running, name: str) -> float:
    answer = await one.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", admin=True)
    (line,) = [line for line in answer.body.decode().splitlines() if line.startswith(f"dial_results_receiver_{name} ")]
    return float(line.split()[1])


@pytest.mark.parametrize("fast_lane", [True, False])
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"], ids=["by name", "without a name"])
async def test_a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on(
    tmp_path: Path, authority: trustme.CA, client_side: ssl.SSLContext, fast_lane: bool, name: str
) -> None:
    cert, key = write(tmp_path, authority)
    async with running(tmp_path, tls_cert_file=cert, tls_key_file=key, fast_lane=fast_lane) as one:
        async with connected(one, client_side, name) as old:
            assert (await old.ask(kept(b"1"))).body == SUCCESS
            write(tmp_path, authority)
            one.receiver.reload()
            async with connected(one, client_side, name) as new:
                assert (await new.ask(kept(b"2"))).body == SUCCESS
                assert new.certificate != old.certificate
            assert (await old.ask(kept(b"3"))).body == SUCCESS
        assert [callback.body for callback in one.journaled()] == [b"1", b"2", b"3"]


async def test_a_changed_file_is_noticed_and_a_broken_one_keeps_the_old(
    tmp_path: Path, authority: trustme.CA, client_side: ssl.SSLContext
) -> None:
    cert, key = write(tmp_path, authority)
    async with running(tmp_path, tls_cert_file=cert, tls_key_file=key) as one:
        async with connected(one, client_side) as client:
            before = client.certificate
        with capture_logs() as logs:
            cert.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
            await until(lambda: logs)
            assert [line["event"] for line in logs] == ["tls_files_broken"]
        assert await metric(one, "tls_files_ok") == 0
        async with connected(one, client_side) as client:
            assert client.certificate == before
        write(tmp_path, authority)
        await until(lambda: one.receiver.tls.files_ok)
        async with connected(one, client_side) as client:
            assert client.certificate != before
        assert await metric(one, "tls_files_ok") == 1


async def test_a_certificate_with_the_key_of_another_changes_nothing(tmp_path: Path, authority: trustme.CA) -> None:
    tls = Tls(*write(tmp_path, authority))
    newest, expires_s = tls._newest, tls.expires_s
    key = (tmp_path / "key.pem").read_bytes()
    write(tmp_path, authority, not_after=datetime(2040, 1, 1, tzinfo=UTC))
    (tmp_path / "key.pem").write_bytes(key)
    tls.reload()
    assert (tls._newest, tls.expires_s, tls.files_ok) == (newest, expires_s, False)


@pytest.mark.parametrize("year", [2049, 2051], ids=["UTCTime", "GeneralizedTime"])
def test_the_end_of_the_certificate_is_known(tmp_path: Path, authority: trustme.CA, year: int) -> None:
    ends = datetime(year, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert Tls(*write(tmp_path, authority, not_after=ends)).expires_s == ends.timestamp()


@pytest.mark.parametrize(
    "content", [None, b"", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
@pytest.mark.parametrize("which", ["cert.pem", "key.pem"])
def test_files_that_cannot_be_used_are_an_error_at_the_start(
    tmp_path: Path, authority: trustme.CA, which: str, content: bytes | None
) -> None:
    cert, key = write(tmp_path, authority)
    if content is None:
        (tmp_path / which).unlink()
    else:
        (tmp_path / which).write_bytes(content)
    with pytest.raises(TlsFilesError):
        Tls(cert, key)


async def test_plain_http_to_the_tls_port_gets_nothing(tmp_path: Path, authority: trustme.CA) -> None:
    cert, key = write(tmp_path, authority)
    async with running(tmp_path, tls_cert_file=cert, tls_key_file=key) as one:
        try:
            answer = await one.raw(kept())
        except ConnectionResetError:
            answer = b""
        assert b"HTTP" not in answer
        assert not one.journaled()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "a beginning"])
async def test_a_handshake_that_never_ends_is_ended(
    tmp_path: Path,
    authority: trustme.CA,
    client_side: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    said: bytes,
) -> None:
    monkeypatch.setattr(server, "_TLS_S", 2.0)
    cert, key = write(tmp_path, authority)
    async with running(tmp_path, tls_cert_file=cert, tls_key_file=key) as one, connected(one, client_side) as other:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.receiver.port)
        writer.write(said)
        async with asyncio.timeout(60):
            assert await reader.read() == b""
        writer.close()
        assert (await other.ask(kept())).body == SUCCESS  # who has shaken hands is not under that bound


async def test_sighup_reads_the_certificate_again_without_a_restart(
    tmp_path: Path, authority: trustme.CA, client_side: ssl.SSLContext
) -> None:
    cert, key = write(tmp_path, authority)
    one = Process(tmp_path, RECEIVER_TLS_CERT_FILE=str(cert), RECEIVER_TLS_KEY_FILE=str(key))
    url = one.url().replace("http://127.0.0.1", "https://localhost")
    async with started(one) as process, aiohttp.ClientSession() as session:
        write(tmp_path, authority)
        process.send_signal(signal.SIGHUP)
        await until(lambda: "tls_files_read" in one.log.read_text())
        async with session.post(url, data=b"1", ssl=client_side) as answer:
            assert (answer.status, await answer.read()) == (200, SUCCESS)
        process.terminate()
        assert await process.wait() == 0
    assert await one.journaled() == [b"1"]


async def test_without_a_usable_certificate_it_does_not_start(tmp_path: Path) -> None:
    one = Process(tmp_path, RECEIVER_TLS_CERT_FILE="/nowhere/cert.pem", RECEIVER_TLS_KEY_FILE="/nowhere/key.pem")
    assert await one.ends() == 2
    assert "/nowhere/cert.pem" in one.log.read_text()
