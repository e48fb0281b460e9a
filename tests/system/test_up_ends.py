"""How `dial-results up` ends, and how the next one goes on."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.system.outside import COMMAND, STOP_S, Up, eventually, once_everywhere, part, running

pytestmark = pytest.mark.timeout(900)


def nothing_left(up: Up) -> bool:
    return not (up.processes() or (up.data / "lock").exists() or (up.data / "control.json").exists())


def check(data: Path) -> subprocess.CompletedProcess[str]:
    command = (COMMAND, "up", "--check", "--data", str(data))
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)


def test_ctrl_c_leaves_no_process_and_no_lock_and_the_next_goes_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data) as up:
        first = up.json
        assert len(up.processes()) >= 8
        up.process.send_signal(signal.SIGINT)
        up.process.send_signal(signal.SIGINT)  # impatience changes nothing
        assert up.process.wait(STOP_S) == 0
        assert nothing_left(up)
        assert set(up.json["pids"].values()) == {None}
    nobody = part(data, "stop", "kafka")
    assert nobody.returncode == 75
    assert "no `dial-results up` runs" in nobody.stderr

    again = check(data)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("a repeat of what it had: still there once") == 3
    assert nothing_left(up)
    kept = ("token", "callback_url", "postgres_dsn", "kafka_bootstrap_servers", "crm_url")
    assert {name: up.json[name] for name in kept} == {name: first[name] for name in kept}


def test_ctrl_c_while_it_starts(tmp_path: Path) -> None:
    up = Up(tmp_path / "data")
    up.wait_for("postgres     ready")
    assert up.end() == 0, up.said
    assert nothing_left(up)
    assert check(up.data).returncode == 0


def test_killed_it_leaves_nothing_running_and_the_next_one_works(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data) as up:
        up.process.kill()
        up.process.wait(60)
        assert eventually(lambda: not up.processes())
    with running(data) as next_up:
        once_everywhere(next_up, "66635573", ["55667448"])


def test_what_a_killed_up_left_is_cleared_away(tmp_path: Path) -> None:
    """A part that does not end with its `up` (stopped here, so that it cannot) is ended by the next."""
    data = tmp_path / "data"
    with running(data) as up:
        frozen = up.json["pids"]["sandbox-crm"]
        os.kill(frozen, signal.SIGSTOP)
        up.process.kill()
        up.process.wait(60)
        assert eventually(lambda: up.processes() == [frozen])
    again = check(data)
    assert again.returncode == 0, again.stdout
    assert "an earlier `up` was killed; ending what it left: sandbox-crm" in again.stdout


def test_a_check_that_fails_says_why(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "merchants.toml").write_text("not toml at all")
    failed = check(data)
    assert failed.returncode == 1
    assert "up failed:" in failed.stdout
    assert "merchants.toml: not TOML" in failed.stdout
    assert not (data / "lock").exists()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with running(tmp_path / "one") as up:
        port = up.json["kafka_bootstrap_servers"].rpartition(":")[2]
        command = (COMMAND, "up", "--check", "--data", str(tmp_path / "two"), "--port", f"receiver={port}")
        taken = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert taken.returncode == 1
    assert f"port {port} (receiver) is taken" in taken.stdout


def test_a_port_that_is_none_is_an_error_of_usage() -> None:
    for wrong in ("receiver", "receiver=0", "receiver=http", "zookeeper=2181"):
        done = subprocess.run((COMMAND, "up", "--port", wrong), capture_output=True, text=True, check=False)
        assert done.returncode == 2, wrong
        assert "NAME=NUMBER" in done.stderr
