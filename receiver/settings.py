"""The receiver's settings, read from `RECEIVER_...` by `__main__` and nowhere else."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from receiver.door import Door, digest
from receiver.journal import JournalLimits

_MiB = 1024 * 1024


def _networks(given: Any) -> Any:  # noqa: ANN401  # whatever stands in the environment
    if not isinstance(given, str):
        return given
    try:
        return tuple(ip_network(part.strip()) for part in given.split(",") if part.strip())
    except ValueError:
        raise ValueError("networks like 10.0.0.0/8, separated by commas") from None


Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_networks)]


def worker_journal(journal_dir: Path, index: int) -> Path:
    """Return the folder of a worker's journal."""
    return journal_dir / f"worker-{index}" if index else journal_dir


class ReceiverSettings(BaseSettings):
    """Sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="RECEIVER_", frozen=True)

    host: str = Field("127.0.0.1", description="address on which callbacks are taken")
    port: int = Field(8080, ge=0, le=65_535, description="port on which callbacks are taken; 0: any free one")
    admin_host: str = Field("127.0.0.1", description="address of `/healthz`, `/readyz` and `/metrics`: not public")
    admin_port: int = Field(8081, ge=0, le=65_535, description="port of the same; 0: any free one")
    merchants_file: Path = Field(Path("merchants.toml"), description="who may post; read again when it changes")
    required_header: str | None = Field(
        None, description="name of a header that every callback has to bring; none by default"
    )
    required_header_value: SecretStr | None = Field(
        None, description="the value that it has to have", validate_default=True
    )
    allowed_networks: Networks = Field((), description="networks that may post, separated by commas; any by default")
    trusted_proxies: Networks = Field((), description="networks whose `X-Forwarded-For` is believed, for the former")
    tls_cert_file: Path | None = Field(
        None, description="certificate with its chain, PEM: TLS at the callbacks' port; read again when it changes"
    )
    tls_key_file: Path | None = Field(None, description="its key, PEM, without a password", validate_default=True)
    workers: int = Field(1, ge=1, le=64, description="processes that share the port, each with a journal of its own")
    journal_dir: Path = Field(Path("journal"), description="the journal's folder, local, for this process alone")
    journal_quota_bytes: int = Field(10_240 * _MiB, gt=0, description="room of the journal; refuses from 90 % of it on")
    journal_segment_bytes: int = Field(64 * _MiB, gt=0, description="size of one file of the journal")
    # The topics allow 2 MB, so that a body of 1 MB fits whatever its JSON grows to.
    body_cap_bytes: int = Field(1_000_000, gt=0, description="largest body taken; above it 413, which loses it")
    # Blu posts a few KB in one piece. Who needs longer than this keeps a connection for nothing.
    body_timeout_s: float = Field(5.0, gt=0, description="time for a body to arrive; then 408")
    in_flight_cap: int = Field(2_000, gt=0, description="callbacks under way at once; above it 503")
    # A silent one costs 1 KB, one that keeps its headers unfinished 6 to 20 KB. Blu may open hundreds at once.
    strangers_cap: int = Field(
        1_000, gt=0, description="open connections that brought no callback yet; above it the oldest is closed"
    )
    # Above the 60 s of the usual proxies, so that the proxy closes first and meets no half-closed connection.
    keepalive_s: float = Field(75.0, gt=0, description="an idle connection is closed after this")
    stop_grace_s: float = Field(5.0, ge=0, description="on stop, time to go on publishing; the rest stays journaled")
    # Nobody has to have it: the journal has the callback. Kafka answers in 5 to 20 ms while nothing is wrong.
    broker_ack_wait_ms: int = Field(
        0, ge=0, le=30_000, description="an answer waits so long for Kafka to have its callback, then goes out; 0: not"
    )
    fast_lane: bool = Field(True, description="take plain callbacks straight from aiohttp's parser to the journal")
    access_log: Literal["all", "refused"] = Field("refused", description="which requests get a log line of their own")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")

    @field_validator("required_header")
    @classmethod
    def _is_a_header(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z0-9-]+", name):
            raise ValueError("letters, digits and hyphens")
        return name

    @field_validator("required_header_value")
    @classmethod
    def _goes_with_its_name(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        text = value.get_secret_value() if value else ""
        if bool(text) != bool(info.data.get("required_header")):
            raise ValueError("goes with RECEIVER_REQUIRED_HEADER: both or neither")
        if not (text.isascii() and text.isprintable() and text == text.strip()):
            raise ValueError("printable ASCII without white space around it, or no sender could bring it")
        return value

    @field_validator("tls_key_file")
    @classmethod
    def _goes_with_its_certificate(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if bool(key) != bool(info.data.get("tls_cert_file")):
            raise ValueError("goes with RECEIVER_TLS_CERT_FILE: both or neither")
        return key

    def door(self) -> Door | None:
        """Return what a sender has to bring besides the token; None if nothing."""
        if not self.required_header and not self.allowed_networks:
            return None
        value = self.required_header_value.get_secret_value() if self.required_header_value else ""
        return Door(self.required_header or "", digest(value), self.allowed_networks, self.trusted_proxies)

    def of_worker(self, index: int) -> Self:
        """Return the settings of one of several workers. The first one has the journal that a single one would have."""
        return self.model_copy(
            update={
                "admin_host": "127.0.0.1",
                "admin_port": 0,
                "journal_dir": worker_journal(self.journal_dir, index),
                "journal_quota_bytes": self.journal_quota_bytes // self.workers,
            }
        )

    def journal_limits(self) -> JournalLimits:
        """Return the journal's bounds; those without a setting argue for themselves in `journal/limits.py`."""
        return JournalLimits(quota_bytes=self.journal_quota_bytes, segment_bytes=self.journal_segment_bytes)
