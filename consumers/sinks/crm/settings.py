"""The CRM sink's settings, read from `CRM_...`."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Times in seconds."""

    model_config = SettingsConfigDict(env_prefix="CRM_", frozen=True)

    url: str = Field(description="the CRM's address: https://api.hubapi.com, or the sandbox CRM's")
    token: SecretStr = Field(description="bearer token of a private app that may write contacts")
    ledger_dsn: SecretStr = Field(description="PostgreSQL with `ops.crm_ledger` (`dial-results storage migrate`)")
    # HubSpot's dated API; v1 to v3 end in 2027-09.
    api_version: str = Field("2026-09", pattern=r"^(v\d|\d{4}-\d{2})$", description="version of HubSpot's API")
    destination: str = Field(
        "hubspot", min_length=1, description="name of this CRM account in the ledger: another account, another name"
    )
    # HubSpot, per account and 10 s: 100 Free and Starter, 190 Professional and Enterprise, 250 with the add-on.
    # Other applications of the account and further crm processes share it: give each its part.
    limit_calls: int = Field(190, ge=1, description="calls in any window, of this process")
    limit_window_s: float = Field(10.0, gt=0, description="length of that window")
    concurrency: int = Field(8, ge=1, le=64, description="calls under way at once")
    # An upsert of 100 takes a second or two there. Slower, and its outcome counts as unknown: it is sent again.
    call_timeout_s: float = Field(15.0, gt=0, description="time for one answer")
    # Another writer holds a contact for one round of calls. Longer, and the runner comes back later.
    lock_timeout_s: float = Field(5.0, gt=0, description="time to wait for contacts that another writer holds")
    # No call starts later than this behind the ledger check; the database takes the locks of a frozen process away
    # `call_timeout_s` and ten seconds after it.
    hold_s: float = Field(30.0, gt=0, description="time from the ledger check in which calls may start")
    pause_s: float = Field(30.0, gt=0, description="pause after 401, 403 and answers that only an operator can mend")

    @field_validator("url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        if not url.startswith(("https://", "http://")):
            raise ValueError("it begins with https:// (http:// for a sandbox)")
        return url.rstrip("/")

    @field_validator("ledger_dsn")
    @classmethod
    def _is_a_dsn(cls, dsn: SecretStr) -> SecretStr:
        if not dsn.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("it begins with postgresql://")
        return dsn
