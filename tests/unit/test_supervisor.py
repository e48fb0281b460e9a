"""Parts under supervision, with tiny programs in their place."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from ops.standalone import process, supervisor
from ops.standalone.process import Part, identity, last_lines
from ops.standalone.supervisor import PartError, Supervised

LIMIT_S = 60.0
SERVES = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"


class Bench:
    """One part, what it said, and how often its process came or went."""

    def __init__(self, tmp_path: Path, tasks: asyncio.TaskGroup, program: str, **changes: object) -> None:
        self.ready_file = tmp_path / "ready"
        self.said: list[str] = []
        self.changes = 0
        command: Sequence[str] = (sys.executable, "-c", program, str(self.ready_file))
        fields = {"name": "stub", "command": command, "log": tmp_path / "stub.log", "ready": self._ready, **changes}
        self.part = Supervised(Part(**fields), tasks, self._changed, self.said.append)  # type: ignore[arg-type]

    async def _ready(self) -> bool:
        return self.ready_file.exists()

    def _changed(self) -> None:
        self.changes += 1


Run = Callable[..., AbstractAsyncContextManager[Bench]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    @asynccontextmanager
    async def running(program: str, **changes: object) -> AsyncIterator[Bench]:
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
            bench = Bench(tmp_path, tasks, program, **changes)
            try:
                yield bench
            finally:
                await bench.part.close()

    return running


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    return identity(pid) is None


async def test_start_returns_when_it_answers_and_close_leaves_nothing(run: Run) -> None:
    async with run(SERVES) as bench:
        await bench.part.start()
        pid = bench.part.pid
        assert bench.ready_file.exists()
        assert not gone(pid)
    assert gone(pid)
    assert bench.part.pid is None
    assert bench.changes == 2
    assert bench.said == []


async def test_killed_from_outside_it_is_restarted_and_its_last_lines_are_shown(run: Run) -> None:
    async with run("print('last words', flush=True);" + SERVES) as bench:
        await bench.part.start()
        first = bench.part.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: bench.part.pid not in (None, first))
        assert "stub was killed by SIGKILL and is restarted" in bench.said[0]
        assert "last words" in bench.said[0]
        assert not bench.part.held


async def test_restarts_wait_longer_and_longer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_WAIT_S", 0.05)
    waits: list[float] = []
    timeout = asyncio.timeout

    def noting(seconds: float) -> asyncio.Timeout:
        waits.append(seconds)
        return timeout(seconds)

    async with run("raise SystemExit(3)") as bench:
        starting = asyncio.create_task(bench.part.start())
        await asyncio.sleep(0)
        monkeypatch.setattr(supervisor.asyncio, "timeout", noting)
        while len(bench.said) < 5:
            await asyncio.sleep(0.01)
        monkeypatch.setattr(supervisor.asyncio, "timeout", timeout)
        starting.cancel()
        assert "ended with exit code 3 and is restarted" in bench.said[0]
    assert len(waits) >= 4
    for times, wait in enumerate(waits[:4], 1):  # jitter halves it at most
        assert 0.5 <= wait / (0.05 * 2**times) <= 1


async def test_exit_code_78_is_not_restarted(run: Run) -> None:
    async with run("print('a bad deploy'); raise SystemExit(78)") as bench:
        with pytest.raises(PartError, match=r"stub ended and stays down\n.*a bad deploy"):
            await bench.part.start()
        assert bench.part.held
        assert "stub ended with exit code 78 and stays down" in bench.said[0]
        bench.ready_file.touch()
        assert bench.part.pid is None
        assert bench.changes == 2


async def test_what_is_not_ready_in_time_is_an_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "READY_S", 0.3)
    async with run("import time; print('waiting for godot', flush=True); time.sleep(60)") as bench:
        with pytest.raises(PartError, match=r"stub was not ready within 0.3 s\n.*waiting for godot"):
            await bench.part.start()


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_held_down_until_it_is_started_again(run: Run, how: str) -> None:
    async with run(SERVES) as bench:
        await bench.part.start()
        first = bench.part.pid
        await getattr(bench.part, how)()
        assert gone(first)
        assert bench.part.held
        bench.ready_file.unlink()
        await bench.part.start()
        assert bench.part.pid not in (None, first)
        assert bench.said == []  # it did as it was told: nothing to report


async def test_stop_is_asked_for_once_and_then_forced(run: Run) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SERVES
    async with run(deaf, stop_s=0.2) as bench:
        await bench.part.start()
        pid = bench.part.pid
        await bench.part.stop()
        assert gone(pid)
        assert bench.said == ["stub did not stop within 0.2 s and is killed"]


async def test_start_does_not_wait_out_a_long_backoff(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_WAIT_S", 60.0)
    async with run(SERVES) as bench:
        await bench.part.start()
        os.kill(bench.part.pid, signal.SIGKILL)
        await until(lambda: bench.said)
        await bench.part.start()
        assert bench.part.pid is not None


async def test_close_while_it_starts(run: Run) -> None:
    async with run("import time; time.sleep(60)") as bench:
        starting = asyncio.create_task(bench.part.start())
        await until(lambda: bench.part.pid)
        pid = bench.part.pid
        await bench.part.close()
        assert gone(pid)
        with pytest.raises(PartError):
            await starting


async def test_what_cannot_be_run_says_so(run: Run) -> None:
    async with run("", command=("/nonexistent/program",)) as bench:
        starting = asyncio.create_task(bench.part.start())
        await until(lambda: bench.said)
        starting.cancel()
        assert "stub cannot be run" in bench.said[0]


async def test_a_log_grown_too_large_is_begun_anew(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOG_BYTES", 10)
    log = tmp_path / "stub.log"
    log.write_text("of an earlier run\n")
    async with run(SERVES) as bench:
        await bench.part.start()
    assert log.read_text() == ""
    assert (tmp_path / "stub.log.1").read_text() == "of an earlier run\n"


def test_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert "no log" in last_lines(log)
    log.write_bytes(b"x" * 100_000 + b"\n" + b"".join(b"line %d\n" % number for number in range(20)) + b"bad \xff\n")
    assert last_lines(log, 2) == "  | line 19\n  | bad \N{REPLACEMENT CHARACTER}"


def test_identity_tells_the_dead_from_the_living() -> None:
    assert identity(os.getpid()) == identity(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert identity(child.pid) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
async def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent = textwrap.dedent("""
        import asyncio, pathlib, sys
        from ops.standalone.process import Part, spawn

        async def main():
            command = (sys.executable, "-c", "import time; time.sleep(60)")
            child = await spawn(Part("child", command, pathlib.Path(sys.argv[1]), None))
            print(child.pid, flush=True)
            await child.wait()

        asyncio.run(main())
    """)
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-c", parent, str(tmp_path / "child.log"), stdout=subprocess.PIPE
    )
    assert started.stdout
    async with asyncio.timeout(LIMIT_S):
        child = int(await started.stdout.readline())
    assert not gone(child)
    started.kill()
    await started.wait()
    await until(lambda: gone(child))
