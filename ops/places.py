"""Where operators' commands find Kafka, PostgreSQL and the rest: `--data`, the environment, or the last `up`."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import asyncpg
import click

from consumers.sinks.storage.schema import CONNECT_TIMEOUT_S, current_revision, is_current
from ops.kafka import client_options
from ops.standalone.folder import DataFolder, default_folder, read_up

TRY_LATER = 75
_QUERY_S = 60.0

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Places:
    """Addresses of one pipeline; None where nobody named it."""

    kafka: dict[str, Any]
    """aiokafka's options."""
    postgres_dsn: str | None
    analytics_uri: str | None = None
    crm_url: str | None = None
    merchants_file: Path | None = None
    receiver_admin_url: str | None = None

    def dsn(self) -> str:
        """Return the database's address. Raises click.UsageError where none is named."""
        if self.postgres_dsn is None:
            raise click.UsageError("which database? STORAGE_DSN names it, or a running `up` by --data")
        return self.postgres_dsn


def with_places(command: Callable[_P, _R]) -> Callable[..., _R]:
    """Give a click command `--data` and the argument `places`."""

    @click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder of an `up`: its Kafka and PostgreSQL. By default KAFKA_... and STORAGE_DSN, else the last `up`.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, data: Path | None, **kwargs: Any) -> _R:  # noqa: ANN401  # click's
        return command(*args, places=find(data), **kwargs)  # type: ignore[arg-type]  # ParamSpec cannot add by name

    return wrapped


def find(data: Path | None) -> Places:
    """Find the places: those of `data` if it is given, else the environment's, else those of the default folder.

    Raises:
        click.UsageError: the folder is of no `up`, or KAFKA_... is wrong.
    """
    if data is None and ("KAFKA_BOOTSTRAP_SERVERS" in os.environ or "STORAGE_DSN" in os.environ):
        return _of_environment()
    up = read_up(data or default_folder())
    if up is None and data is not None:
        raise click.UsageError(f"--data: nothing is known of {data}; no `up` has run on it")
    return _of_environment() if up is None else _of_up(up, data or default_folder())


def _of_environment() -> Places:
    merchants = os.environ.get("CONSUMER_MERCHANTS_FILE")
    return Places(
        client_options(),
        os.environ.get("STORAGE_DSN"),
        os.environ.get("ANALYTICS_URI"),
        os.environ.get("CRM_URL"),
        Path(merchants) if merchants else None,
        os.environ.get("RECEIVER_ADMIN_URL"),
    )


def _of_up(up: dict[str, Any], folder: Path) -> Places:
    kafka = client_options(up["kafka_bootstrap_servers"])
    merchants = DataFolder(folder).merchants_file
    return Places(kafka, up["postgres_dsn"], up["analytics_uri"], up["crm_url"], merchants, up["receiver_admin_url"])


@asynccontextmanager
async def database(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect to the operators' database.

    Raises:
        DatabaseAway: it does not answer, or `dial-results storage migrate` has not run.
    """
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=_QUERY_S,
            server_settings={"application_name": "dial-results ops"},
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseAway(f"PostgreSQL does not answer: {type(error).__name__}") from error
    try:
        if not is_current(await current_revision(connection)):
            raise DatabaseAway("its tables are older than this program: run `dial-results storage migrate`")
        yield connection
    except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
        raise DatabaseAway(f"PostgreSQL went away: {type(error).__name__}") from error
    finally:
        connection.terminate()  # nothing is in progress; a server that went away would be waited for


class DatabaseAway(Exception):  # noqa: N818  # a state of affairs
    """PostgreSQL cannot be asked now; the message says why."""


def later(command: str, message: str) -> NoReturn:
    """Say why it cannot be done now, and end with 75."""
    click.echo(f"{command}: {message}", err=True)
    sys.exit(TRY_LATER)
