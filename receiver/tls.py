"""TLS at the callbacks' port: a certificate that is replaced without a restart and without dropping a connection."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from receiver.files import Watch

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.get_logger()

_GENERALIZED_TIME = 0x18
_VERSION = 0xA0
_LONG_FORM = 0x80


class TlsFilesError(Exception):
    """The certificate or its key cannot be used; the message says why."""


class Tls:
    """`context` is for the listener: it gives every new connection the newest good certificate."""

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        """Raises TlsFilesError."""
        self._files = (cert_file, key_file)
        self._watch = Watch(*self._files)
        self._newest = _context(*self._files)
        self.expires_s = _expires_s(cert_file)
        """End of the certificate, seconds since 1970."""
        self.files_ok = True
        self.context = _context(*self._files)
        self.context.sni_callback = self._give_newest

    def _give_newest(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest  # OpenSSL asks at every handshake, whether or not a name was sent

    def reload(self) -> None:
        """Read the files now. Broken ones change nothing, but are said in the log and in `files_ok`."""
        self._watch.note()
        try:
            self._newest, self.expires_s = _context(*self._files), _expires_s(self._files[0])
        except TlsFilesError as error:
            self.files_ok = False
            log.error("tls_files_broken", reason=str(error), consequence="the certificate read before stays")  # noqa: TRY400
            return
        self.files_ok = True
        log.info("tls_files_read", expires=datetime.fromtimestamp(self.expires_s, UTC).isoformat())

    async def follow(self) -> None:
        """Read the files again whenever they change. Runs until it is cancelled."""
        await self._watch.follow(self.reload)


def _context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # An empty password: a key that has one is an error, and no question at the terminal.
        context.load_cert_chain(cert_file, key_file, password="")
    except OSError as error:  # ssl.SSLError is one
        raise TlsFilesError(f"{cert_file}, {key_file}: {error.strerror or 'cannot be used'}") from error
    return context


def _expires_s(cert_file: Path) -> float:
    """Return the notAfter of the first certificate of the file, seconds since 1970 (RFC 5280, 4.1)."""
    try:
        pem, end, _ = cert_file.read_text().partition("-----END CERTIFICATE-----")
        der = ssl.PEM_cert_to_DER_cert(
            "-----BEGIN CERTIFICATE-----" + pem.partition("-----BEGIN CERTIFICATE-----")[2] + end
        )
        return _not_after(der).timestamp()
    except (OSError, ValueError, IndexError) as error:
        raise TlsFilesError(f"{cert_file}: no certificate at its start") from error


def _not_after(der: bytes) -> datetime:
    _, start, _ = _element(der, 0)  # Certificate
    _, at, _ = _element(der, start)  # TBSCertificate
    tag, _, end = _element(der, at)
    at = end if tag == _VERSION else at
    for _ in ("serialNumber", "signature", "issuer"):
        _, _, at = _element(der, at)
    _, at, _ = _element(der, at)  # Validity
    _, _, at = _element(der, at)  # notBefore
    tag, start, end = _element(der, at)
    form = "%Y%m%d%H%M%SZ" if tag == _GENERALIZED_TIME else "%y%m%d%H%M%SZ"
    return datetime.strptime(der[start:end].decode(), form).replace(tzinfo=UTC)


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Return the tag of the DER element that begins here, and where its content begins and ends."""
    tag, length, at = der[at], der[at + 1], at + 2
    if length & _LONG_FORM:
        size = length - _LONG_FORM
        length, at = int.from_bytes(der[at : at + size], "big"), at + size
    return tag, at, at + length
