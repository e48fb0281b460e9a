"""What is compared: each variant's command, environment, and where its results are to be found afterwards."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.token import new_token

from .load import ROOT, free_port

NOBODY_LISTENS = "127.0.0.1:1"


@dataclass
class Variant:
    """One server. `topic` is where its results must be counted afterwards, None if it publishes nothing."""

    letter: str
    title: str
    command: Sequence[str]
    environment: Mapping[str, str]
    port: int
    token: str
    topic: str | None = None

    @property
    def admin_port(self) -> int:
        """Ours alone has one."""
        return int(self.environment["RECEIVER_ADMIN_PORT"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/callbacks/{self.token}"


def ours(letter: str, title: str, folder: Path, kafka: str | None, *arguments: str, **extra: str) -> Variant:
    """Our receiver; without Kafka it only acknowledges and journals."""
    folder.mkdir(parents=True)
    port = free_port()
    environment = {
        "RECEIVER_PORT": str(port),
        "RECEIVER_ADMIN_PORT": str(free_port()),
        "RECEIVER_MERCHANTS_FILE": str(folder / "merchants.toml"),
        "RECEIVER_JOURNAL_DIR": str(folder / "journal"),
        "KAFKA_BOOTSTRAP_SERVERS": kafka or NOBODY_LISTENS,
        "PYTHONPATH": str(ROOT),
        **extra,
    }
    token = new_token(folder / "merchants.toml", "demo")
    command = (sys.executable, "-m", "receiver", *arguments)
    return Variant(letter, title, command, environment, port, token, "dial-results" if kafka else None)


def bare() -> Variant:
    port = free_port()
    command = (sys.executable, "-m", "benchmarks.receiver.bare")
    return Variant("a", "bare aiohttp handler, stores nothing", command, _peer(port), port, "token")


def usual(kafka: str) -> Variant:
    port = free_port()
    environment = _peer(port) | {"KAFKA_BOOTSTRAP_SERVERS": kafka, "TOPIC": "bench-usual"}
    command = (sys.executable, "-m", "benchmarks.receiver.usual")
    return Variant("d", "FastAPI, pydantic, send_and_wait", command, environment, port, "token", "bench-usual")


def go_peer(kafka: str, folder: Path) -> Variant | None:
    """Return the Go yardstick, or None (loudly) where Go is not installed."""
    go = shutil.which("go")
    if go is None:
        print("SKIPPED: (e) needs Go")
        return None
    binary = folder / "go_peer"
    subprocess.run(
        [go, "build", "-o", str(binary), "."], cwd=Path(__file__).parent / "go_peer", check=True, timeout=600
    )
    port = free_port()
    environment = _peer(port) | {"KAFKA_BOOTSTRAP_SERVERS": kafka, "TOPIC": "bench-go", "GOMAXPROCS": "1"}
    return Variant("e", "Go net/http, franz-go, not fsynced", (str(binary),), environment, port, "token", "bench-go")


def twin(folder: Path) -> Variant:
    folder.mkdir(parents=True)
    port = free_port()
    files = {"MERCHANTS_FILE": str(folder / "merchants.toml"), "DATABASE": str(folder / "journal.sqlite")}
    token = new_token(folder / "merchants.toml", "demo")
    command = (sys.executable, "-m", "benchmarks.receiver.twin")
    return Variant("f", "ours on SQLite rows, acknowledging", command, _peer(port) | files, port, token)


def _peer(port: int) -> dict[str, str]:
    return {"PORT": str(port), "TOKEN": "token", "PYTHONPATH": str(ROOT)}
