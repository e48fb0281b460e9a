"""The storage sink's settings, read from `STORAGE_...`."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Times in seconds."""

    model_config = SettingsConfigDict(env_prefix="STORAGE_", frozen=True)

    dsn: SecretStr = Field(description="the database: postgresql://user:password@host:port/name, one host or several")
    connect_timeout_s: float = Field(10.0, gt=0, description="time for a connection to come about")
    # 5,000 rows take 0.15 s. A database that needs longer than this is as good as away, and is asked again.
    write_timeout_s: float = Field(30.0, gt=0, description="time for one batch to be durable")

    @field_validator("dsn")
    @classmethod
    def _is_a_dsn(cls, dsn: SecretStr) -> SecretStr:
        if not dsn.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("it begins with postgresql://")
        return dsn
