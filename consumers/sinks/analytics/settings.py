"""The analytics sink's settings, read from `ANALYTICS_...`."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Times in seconds."""

    model_config = SettingsConfigDict(env_prefix="ANALYTICS_", frozen=True)

    uri: str = Field(min_length=1, description="the table: a folder, or s3://bucket/path")
    pseudonym_key: SecretStr = Field(min_length=1, description="key of the HMAC that stands for a person")
    epoch: str = Field("1", min_length=1, description="another one after the topic was recreated: offsets begin at 0")
    storage_options: dict[str, str] = Field(
        default={}, description="what delta-rs needs to reach the storage", repr=False
    )
    compact_every: int = Field(20, ge=1, description="commits between two compactions")
    memory_ids: int = Field(5_000_000, ge=1, description="recent event ids kept in memory, 34 bytes each")
    write_timeout_s: float = Field(120.0, gt=0, description="how long a batch is waited for")
