"""The CRM sink's settings, read from `CRM_...`."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from .field_map import FieldMap, load_field_map
from .signature import secret_bytes

if TYPE_CHECKING:
    from pydantic import ValidationInfo


class Limit(NamedTuple):
    """At most `calls` in any `window_s` seconds."""

    calls: int
    window_s: float


# HubSpot, per account and 10 s: 100 Free and Starter, 190 Professional and Enterprise, 250 with the add-on.
# Salesforce: 100,000 in any 24 hours, and more by licence. A webhook's limit nobody documents: a gentle one.
LIMITS = {"hubspot": Limit(190, 10.0), "salesforce": Limit(100_000, 86_400.0), "webhook": Limit(10, 1.0)}


class Settings(BaseSettings):
    """Times in seconds."""

    model_config = SettingsConfigDict(env_prefix="CRM_", frozen=True)

    url: str = Field(description="the CRM's address: https://api.hubapi.com, or the sandbox CRM's")
    token: SecretStr = Field(description="bearer token of an application that may write contacts")
    ledger_dsn: SecretStr = Field(description="PostgreSQL with `ops.crm_ledger` (`dial-results storage migrate`)")
    vendor: Literal["hubspot", "salesforce", "webhook"] = Field("hubspot", description="whose API the CRM speaks")
    client_id: str | None = Field(
        None,
        min_length=1,
        description="Salesforce: OAuth client id, of the client credentials flow; `CRM_TOKEN` is then its secret",
    )
    api_version: str | None = Field(
        None,
        pattern=r"^(v\d{1,3}(\.0)?|\d{4}-\d{2})$",
        description="version of the vendor's API; none: HubSpot's 2026-09, Salesforce's v67.0",
    )
    mapping_file: Path | None = Field(
        None,
        description="TOML with the CRM's names for fields and conclusions (docs/crm.md); none: the vendor's defaults",
    )
    webhook_secret: SecretStr | None = Field(
        None, description="`whsec_...`: sign webhooks by Standard Webhooks; none: unsigned"
    )
    destination: str | None = Field(
        None, min_length=1, description="name of this CRM account in the ledger; none: the vendor's"
    )
    # Other applications of the account and further crm processes share the limit: give each its part.
    limit_calls: int | None = Field(
        None, ge=1, description="calls in any window, of this process; none: HubSpot 190, Salesforce 100000, webhook 10"
    )
    limit_window_s: float | None = Field(
        None, gt=0, description="length of that window; none: HubSpot 10, Salesforce 86400, webhook 1"
    )
    concurrency: int = Field(8, ge=1, le=64, description="calls under way at once")
    # An upsert of 100 takes a second or two there. Slower, and its outcome counts as unknown: it is sent again.
    call_timeout_s: float = Field(15.0, gt=0, description="time for one answer")
    # Another writer holds a contact for one round of calls. Longer, and the runner comes back later.
    lock_timeout_s: float = Field(5.0, gt=0, description="time to wait for contacts that another writer holds")
    # No call starts later than this behind the ledger check; the database takes the locks of a frozen process away
    # `call_timeout_s` and ten seconds after it.
    hold_s: float = Field(30.0, gt=0, description="time from the ledger check in which calls may start")
    pause_s: float = Field(30.0, gt=0, description="pause after 401, 403 and answers that only an operator can mend")
    # One lost reply is the network, five calls in a row the CRM.
    breaker_failures: int = Field(5, ge=1, description="failed calls in a row that open the circuit breaker")
    breaker_s: float = Field(30.0, gt=0, description="rest of the open breaker before one call probes the CRM")
    # A conflict or a lock of another application is over in seconds; ten minutes stand for ever.
    give_up_s: float = Field(
        600.0, gt=0, description="time in which a result answered with a conflict or an internal error is tried again"
    )

    @property
    def account(self) -> str:
        """The name in the ledger."""
        return self.destination or self.vendor

    @property
    def limit(self) -> Limit:
        """The limit that this process keeps."""
        usual = LIMITS[self.vendor]
        return Limit(self.limit_calls or usual.calls, self.limit_window_s or usual.window_s)

    @cached_property
    def field_map(self) -> FieldMap:
        """The mapping file's content."""
        return load_field_map(self.mapping_file, self.vendor)

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

    @field_validator("mapping_file")
    @classmethod
    def _can_be_used(cls, path: Path | None, given: ValidationInfo) -> Path | None:
        load_field_map(path, given.data.get("vendor", "hubspot"))
        return path

    @field_validator("webhook_secret")
    @classmethod
    def _is_a_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret:
            secret_bytes(secret.get_secret_value())
        return secret
