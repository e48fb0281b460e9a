"""The settings that all consumers share, read from `CONSUMER_...` by `__main__` and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ConsumerSettings(BaseSettings):
    """Times in seconds."""

    model_config = SettingsConfigDict(env_prefix="CONSUMER_", frozen=True)

    admin_host: str = Field("127.0.0.1", description="address of `/healthz`, `/readyz` and `/metrics`: not public")
    admin_port: int = Field(8090, ge=0, le=65_535, description="port of the same; 0: any free one")
    merchants_file: Path | None = Field(
        None, description="merchants' field names and time zones; none: likely names and UTC"
    )
    receipts_dsn: SecretStr | None = Field(
        None, description="PostgreSQL for receipts of erasures; none: the sink's own database, or no receipts"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    # One bad record is normal, five may be one bad upload; a hundred without a good one between is a bad deploy.
    reject_limit: int = Field(100, ge=1, description="rejects in a row; one more ends the process with 78")
    # At a result every few seconds a bad deploy still comes to the limit before anything of it is dead-lettered.
    reject_hold_s: float = Field(
        15.0, ge=0, description="time without any further record after which a run of rejects is dead-lettered"
    )
    # A killed process's partitions wait for so long. Nothing here keeps the event loop from a heartbeat for a second,
    # and being taken for dead wrongly costs a redelivery, no double effect. Kafka allows no less than 6 s by default.
    session_timeout_s: float = Field(
        15.0, ge=1, description="silence after which the group takes this process for dead"
    )
    watchdog_s: float = Field(90.0, gt=0, description="with work and a healthy sink: ends if nothing moves for so long")
    stop_grace_s: float = Field(4.0, ge=0, description="on stop, time for the write in progress to finish")
