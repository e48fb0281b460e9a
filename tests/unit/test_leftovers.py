"""What an `up` that was killed left running: ended by the next one, whatever state it is in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ops.standalone import leftovers
from ops.standalone.folder import DataFolder
from ops.standalone.process import identity

SLEEPS = "print('here', flush=True); import time; time.sleep(60)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPS


async def ended(code: str, folder: Path, *, stopped: bool = False) -> int:
    """Leave such a process behind, clear away, and return how it ended."""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as left:  # noqa: ASYNC220
        assert left.stdout
        assert left.stdout.readline() == b"here\n"
        if stopped:
            os.kill(left.pid, signal.SIGSTOP)
        told = {"pid": left.pid, "identity": identity(left.pid), "signal": int(signal.SIGTERM)}
        (folder / leftovers.FILE).write_text(json.dumps({"crm": told}))
        said: list[str] = []
        await leftovers.clear_away(DataFolder(folder), said.append)
        assert said == ["an earlier `up` was killed; ending what it left: crm"]
        return left.wait(60)


async def test_one_that_somebody_stopped_still_hears_the_first_signal(tmp_path: Path) -> None:
    assert await ended(SLEEPS, tmp_path, stopped=True) == -signal.SIGTERM


async def test_a_deaf_one_is_killed_when_patience_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_PATIENCE_S", 0.3)
    assert await ended(DEAF, tmp_path) == -signal.SIGKILL
