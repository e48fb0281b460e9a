"""The data folder of one `up`: its lock, its ports and secrets (chosen once, kept over runs), and what scripts read."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ops.standalone.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PORTS = (
    *("kafka", "kafka-controller", "postgres", "sandbox-crm", "receiver", "receiver-admin"),
    *("storage-admin", "analytics-admin", "crm-admin", "control"),
)
SECRETS = ("postgres_password", "crm_token", "pseudonym_key", "control_secret")


class FolderInUse(Exception):  # noqa: N818  # a state of affairs
    """Another `up` runs on this folder; the message says which."""


def default_folder() -> Path:
    """Name the folder where `up` keeps everything unless told otherwise."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "dial-results"


class DataFolder:
    """Everything of one `up`. Files with secrets are readable by their owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.up_file = self.path / "up.json"
        self.merchants_file = self.path / "merchants.toml"
        self._lock = self.path / "lock"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep any other `up` out. Raises FolderInUse; OSError where the folder cannot be made."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)  # names and mobiles lie in here
        (self.path / "logs").mkdir(exist_ok=True)
        lock = self._take_lock()
        try:
            yield
        finally:
            self._lock.unlink()
            lock.close()

    def is_locked(self) -> bool:
        """Tell whether an `up` runs here."""
        try:
            with self._lock.open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _take_lock(self) -> IO[str]:
        while True:
            lock = self._lock.open("a+")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip() or "just starting or stopping"
                lock.close()
                raise FolderInUse(f"`dial-results up` runs on {self.path} already: pid {holder}") from None
            if self._lock.exists() and os.path.samestat(os.fstat(lock.fileno()), self._lock.stat()):
                break
            lock.close()  # its holder ended, and removed it, between our two steps
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        return lock

    def log(self, part: str) -> Path:
        """Name a part's log file."""
        return self.path / "logs" / f"{part}.log"

    def ports(self, fixed: Mapping[str, int]) -> dict[str, int]:
        """Return the ports by name: those given, else those of the last run, else free ones."""
        known = {**self.read("ports.json"), **fixed}
        ports = {**free_ports((name for name in PORTS if name not in known), known.values()), **known}
        self.write("ports.json", ports)
        return ports

    def secrets(self) -> dict[str, str]:
        """Return the secrets by name, made once."""
        made = {name: secrets.token_urlsafe(32) for name in SECRETS}
        kept = {**made, **self.read("secrets.json")}
        self.write("secrets.json", kept)
        return kept

    def keep_secret(self, name: str, value: str) -> None:
        """Add a secret to those that are kept."""
        self.write("secrets.json", {**self.read("secrets.json"), name: value})

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Replace a JSON file atomically, mode 0600."""
        private = self.path / f".{name}.{os.getpid()}"
        private.touch(0o600)
        private.write_text(json.dumps(content, indent=2) + "\n")
        private.replace(self.path / name)

    def read(self, name: str) -> dict[str, Any]:
        """Return what a JSON file holds, nothing where there is none."""
        path = self.path / name
        return dict(json.loads(path.read_text())) if path.exists() else {}


def read_up(folder: Path) -> dict[str, Any] | None:
    """Return what `up.json` says, None where no `up` has been."""
    return DataFolder(folder).read("up.json") or None
