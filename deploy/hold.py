"""Runs a consumer as the first process of its container: `python hold.py COMMAND...`.

A consumer that ends with 78 has stopped on purpose (too many rejects in a row) and must not be started again before
somebody has looked, but Docker restarts whatever ends. So this stays behind, without the consumer's admin port: the
container shows as unhealthy, and `docker compose restart` tries again. Every other ending is passed on.
"""

# ruff: noqa: INP001 - a script of the images, not a package

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType

STOPPED_ON_PURPOSE = 78
_SIGNALLED = 128  # how a shell, and Docker, count an ending by signal


def main(command: list[str]) -> int:
    """Run the command to its end and return its exit code; after 78 only once told to stop."""
    # Blocked until the child is there to take it: a stop in between would be lost on process 1.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    process = subprocess.Popen(command, preexec_fn=_unblock)  # noqa: S603, PLW1509 - no thread exists yet
    for number in _STOP:
        signal.signal(number, lambda number, _frame: process.send_signal(number))
    _unblock()
    code = process.wait()
    if code == STOPPED_ON_PURPOSE:
        _hold()
    return code if code >= 0 else _SIGNALLED - code


_STOP = (signal.SIGTERM, signal.SIGINT)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)


def _hold() -> None:
    for number in _STOP:
        signal.signal(number, _leave)
    sys.stderr.write('{"event":"held","level":"error","reason":"stopped on purpose (78): look, then restart"}\n')
    while True:
        signal.pause()


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(STOPPED_ON_PURPOSE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
