"""Processes of an `up` that was killed: normally Linux ends them with it; this clears away what it did not."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ops.standalone.process import identity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ops.standalone.folder import DataFolder
    from ops.standalone.supervisor import Supervised

FILE = "pids.json"
_PATIENCE_S = 15.0
_LOOK_EVERY_S = 0.05


def remember(folder: DataFolder, parts: Mapping[str, Supervised]) -> None:
    """Write down which processes run. A pid alone does not do: another process may have it later."""
    running = {name: (part.pid, part.part.stop_signal) for name, part in parts.items()}
    folder.write(
        FILE,
        {
            name: {"pid": pid, "identity": identity(pid), "signal": int(number)}
            for name, (pid, number) in running.items()
            if pid is not None
        },
    )


async def clear_away(folder: DataFolder, say: Callable[[str], None]) -> None:
    """End what an earlier run of this folder left behind; the caller holds the folder's lock."""
    left = {name: told for name, told in folder.read(FILE).items() if _is_there(told)}
    if left:
        say(f"an earlier `up` was killed; ending what it left: {' '.join(left)}")
    await asyncio.gather(*(_end(told) for told in left.values()))


async def _end(told: dict[str, Any]) -> None:
    for number in (signal.Signals(told["signal"]), signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(told["pid"], number)
            os.kill(told["pid"], signal.SIGCONT)  # one that somebody stopped would not hear the first
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                while _is_there(told):
                    await asyncio.sleep(_LOOK_EVERY_S)
            return


def _is_there(told: dict[str, Any]) -> bool:
    return told["identity"] is not None and identity(told["pid"]) == told["identity"]
