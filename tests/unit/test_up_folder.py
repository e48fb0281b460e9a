"""The data folder of `up`: one at a time, the same ports and secrets each time, readable by its owner alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ops.standalone import ports as ports_module
from ops.standalone.folder import PORTS, SECRETS, DataFolder, FolderInUse, read_up
from ops.standalone.ports import PortTaken, check_free, free_ports, is_free


def test_one_up_at_a_time_and_no_lock_afterwards(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    assert not folder.is_locked()
    with folder.locked():
        assert folder.is_locked()
        with pytest.raises(FolderInUse, match=rf"already: pid {os.getpid()}$"), DataFolder(folder.path).locked():
            pass
    assert not folder.is_locked()
    assert not (folder.path / "lock").exists()
    with folder.locked():
        pass


def test_the_lock_of_a_killed_up_does_not_hold(tmp_path: Path) -> None:
    holds = f"""
import time
from pathlib import Path
from ops.standalone.folder import DataFolder
with DataFolder(Path({str(tmp_path)!r})).locked():
    print("locked", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", holds], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"locked\n"
        folder = DataFolder(tmp_path)
        assert folder.is_locked()
        holder.kill()
    assert not folder.is_locked()
    with folder.locked():
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_ports_are_chosen_once(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    ports = folder.ports({})
    assert set(ports) == set(PORTS)
    assert len(set(ports.values())) == len(PORTS)
    assert folder.ports({}) == ports
    fixed = folder.ports({"receiver": 8080})
    assert fixed == {**ports, "receiver": 8080}
    assert folder.ports({}) == fixed


def test_a_new_name_gets_a_port_and_the_others_keep_theirs(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.write("ports.json", {"kafka": 20_001})
    ports = folder.ports({})
    assert ports["kafka"] == 20_001
    assert len(set(ports.values())) == len(PORTS)


def test_ports_stay_out_of_the_way_of_outgoing_connections_and_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = free_ports(["busy"])["busy"]
    near = range(busy - 20, busy + 20)
    monkeypatch.setattr(ports_module, "_RANGE", range(busy - 500, busy + 500))
    with socket.create_server(("127.0.0.1", busy)):
        assert not is_free(busy)
        chosen = set(free_ports(map(str, range(30)), taken=set(ports_module._RANGE) - set(near)).values())
    assert len(chosen) == 30
    assert chosen < set(near) - {busy}
    assert 19_000 < min(chosen) <= max(chosen) < 32_768


def test_a_taken_port_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"port {port} \(kafka\) is taken .* --port kafka=NUMBER"):
            check_free({"kafka": port})
    check_free({"kafka": port})


def test_secrets_are_made_once_and_kept_private(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    secrets = folder.secrets()
    assert len({secrets[name] for name in SECRETS}) == len(SECRETS)
    folder.keep_secret("token", "made-up")
    assert folder.secrets() == {**secrets, "token": "made-up"}
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_files_are_replaced_in_one_step(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    assert read_up(tmp_path) is None
    folder.write("up.json", {"token": "one"})
    with (tmp_path / "up.json").open() as reader:
        folder.write("up.json", {"token": "two"})
        assert json.load(reader) == {"token": "one"}
    assert read_up(tmp_path) == {"token": "two"}
    assert (tmp_path / "up.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["up.json"]
