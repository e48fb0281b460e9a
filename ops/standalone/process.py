"""Start one process that ends with us, and look at its log."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

LOG_BYTES = 20_000_000  # a log larger than this is begun anew when its part starts; one older copy stays
_TAIL_BYTES = 8_192
_PR_SET_PDEATHSIG = 1
# Loaded here, so that the child of a fork has nothing to load.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Part:
    """What a part is. `ready` tells whether it answers, within 3 s; it is asked again until it does."""

    name: str
    command: Sequence[str]
    log: Path
    ready: Callable[[], Awaitable[bool]]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_s: float = 15.0


async def spawn(part: Part) -> asyncio.subprocess.Process:
    """Start it, its output behind its log. Raises OSError where it cannot be run."""
    if part.log.exists() and part.log.stat().st_size > LOG_BYTES:
        part.log.replace(part.log.with_suffix(".log.1"))
    with part.log.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *part.command,
            cwd=part.folder,
            env={**_own_environment(), **part.environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal is for `up` alone, which stops all in order
            preexec_fn=_ends_with(os.getpid(), part.stop_signal),
        )


def _own_environment() -> dict[str, str]:
    """Leave out how the operator's shell reaches some other Kafka."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}


def _ends_with(parent: int, number: signal.Signals) -> Callable[[], None]:
    """Have Linux end the child when its parent is killed; elsewhere the next `up` clears away what was left."""

    def in_child() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, number)
            if os.getppid() != parent:  # it was killed before we could ask
                os._exit(1)

    return in_child


def last_lines(log: Path, count: int = 8) -> str:
    """Return the end of a log, indented, for showing."""
    if not log.exists():
        return "  | (no log)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(f"  | {line}" for line in deque(lines, count)) or "  | (its log is empty)"


def identity(pid: int) -> str | None:
    """Tell this process from any later one of the same pid; None where there is no such process, or no telling."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, started = fields[0], fields[19]
    return None if state == "Z" else started
