"""The merchants' file: who may post, and how a merchant's own names are to be read.

```toml
[acme]
timezone = "Asia/Kuala_Lumpur"      # of Blu's local times; UTC by default

[[acme.tokens]]                     # written by `dial-results token new acme`
id = "t-4f1c"
sha256 = "..."
created = 2026-11-24

[acme.fields]                       # where Blu's richer callbacks have a name of their own; likely names by default
conclusion = "callResult"

[acme.conclusions]                  # what the merchant's own codes mean
KPTP = "promise"

[acme.query]                        # Blu's dial result query, for `dial-results reconcile`
url = "https://..."                 # what stands before /rest/v1/queryCallResult
app_id = "..."
app_key_file = "/run/secrets/acme"  # or app_key = "..."
```
"""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Self
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,63}$")]
_FieldNames = Annotated[tuple[str, ...], Field(min_length=1)] | str
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class MerchantsFileError(Exception):
    """The merchants' file cannot be used; the message says where and why."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Token(_Strict):
    """A token that may post, known by its hash alone."""

    id: str
    sha256: _Sha256
    created: date


class Fields(_Strict):
    """Names of the richer callback's fields; the first that a record has counts."""

    conclusion: _FieldNames = ("conclusion", "callConclusion", "callResult")
    called_at: _FieldNames = ("callTime", "calledAt", "callStartTime", "startTime", "dialTime")
    duration_s: _FieldNames = ("duration", "callDuration", "durationSeconds")
    slots: str = "slots"
    payment_time: _FieldNames = ("paymentTime", "payTime")
    """Within the slots."""


class Query(_Strict):
    """How Blu is asked for a merchant's results. Source: Blu's pages "Authentication" and "Dial result query"."""

    url: Annotated[
        str, StringConstraints(pattern=r"^(https://[^/?#@]+|http://(127\.0\.0\.1|localhost)(:\d+)?)(/[^?#]*)?$")
    ]
    """Without the path of the query; in clear on this machine only: results hold people."""
    app_id: Annotated[str, StringConstraints(min_length=1)]
    app_key: SecretStr | None = None
    app_key_file: Path | None = None
    only_in_query: tuple[str, ...] = ("jobId", "taskId")
    """Fields of a record that no callback has; they are dropped, or no result would equal its callback."""

    @model_validator(mode="after")
    def _has_one_key(self) -> Self:
        if (self.app_key is None) == (self.app_key_file is None):
            raise ValueError("give either app_key or app_key_file")
        return self

    def key(self) -> str:
        """Return the secret. Raises OSError where its file cannot be read."""
        if self.app_key_file is not None:
            return self.app_key_file.read_text(encoding="utf-8").strip()
        return self.app_key.get_secret_value() if self.app_key else ""


class Merchant(_Strict):
    """One merchant. `timezone` is that of Blu's local times."""

    name: Name
    timezone: ZoneInfo = ZoneInfo("UTC")
    tokens: tuple[Token, ...] = ()
    fields: Fields = Field(default_factory=Fields)
    conclusions: dict[str, str] = Field(default_factory=dict)
    query: Query | None = None


_merchants = TypeAdapter(dict[Name, Merchant])


def load_merchants(path: Path) -> dict[str, Merchant]:
    """Read the merchants' file.

    Raises:
        MerchantsFileError: it is missing, not TOML, or says something that cannot be.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MerchantsFileError(f"{path}: {error.strerror}; `dial-results token new MERCHANT` makes one") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MerchantsFileError(f"{path}: not TOML: {error}") from error
    named = {name: {"name": name} | table if isinstance(table, dict) else table for name, table in tables.items()}
    try:
        return _merchants.validate_python(named)
    except ValidationError as error:
        raise MerchantsFileError(f"{path}: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
