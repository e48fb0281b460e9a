"""The receiver's settings, read from `RECEIVER_...` by `__main__` and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from receiver.journal import JournalLimits

_MiB = 1024 * 1024


class ReceiverSettings(BaseSettings):
    """Sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="RECEIVER_", frozen=True)

    host: str = Field("127.0.0.1", description="address on which callbacks are taken")
    port: int = Field(8080, ge=0, le=65_535, description="port on which callbacks are taken; 0: any free one")
    admin_host: str = Field("127.0.0.1", description="address of `/healthz`, `/readyz` and `/metrics`: not public")
    admin_port: int = Field(8081, ge=0, le=65_535, description="port of the same; 0: any free one")
    merchants_file: Path = Field(Path("merchants.toml"), description="who may post; read again when it changes")
    journal_dir: Path = Field(Path("journal"), description="the journal's folder, local, for this process alone")
    journal_quota_bytes: int = Field(10_240 * _MiB, gt=0, description="room of the journal; refuses from 90 % of it on")
    journal_segment_bytes: int = Field(64 * _MiB, gt=0, description="size of one file of the journal")
    # The topics allow 2 MB, so that a body of 1 MB fits whatever its JSON grows to.
    body_cap_bytes: int = Field(1_000_000, gt=0, description="largest body taken; above it 413, which loses it")
    # Blu posts a few KB in one piece. Who needs longer than this keeps a connection for nothing.
    body_timeout_s: float = Field(5.0, gt=0, description="time for a body to arrive; then 408")
    in_flight_cap: int = Field(2_000, gt=0, description="callbacks under way at once; above it 503")
    # Above the 60 s of the usual proxies, so that the proxy closes first and meets no half-closed connection.
    keepalive_s: float = Field(75.0, gt=0, description="an idle connection is closed after this")
    stop_grace_s: float = Field(5.0, ge=0, description="on stop, time to go on publishing; the rest stays journaled")
    fast_lane: bool = Field(True, description="take plain callbacks straight from aiohttp's parser to the journal")
    access_log: Literal["all", "refused"] = Field("refused", description="which requests get a log line of their own")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")

    def journal_limits(self) -> JournalLimits:
        """Return the journal's bounds; those without a setting argue for themselves in `journal/limits.py`."""
        return JournalLimits(quota_bytes=self.journal_quota_bytes, segment_bytes=self.journal_segment_bytes)
