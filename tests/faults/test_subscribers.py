"""Subscribers written from docs/subscribing.md alone, with nothing of this repository. Slow for what they install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest

from tests.subscribers import Place, receives_dedupes_and_starts_yesterday, snippet, wheel
from tests.tools import npm_install, tool

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

KAFKAJS = "kafkajs@2.2.4"
FRANZ_GO = "github.com/twmb/franz-go@v1.22.2"


class AnyBroker(Protocol):
    bootstrap_servers: str


@pytest.fixture
def place(broker: AnyBroker) -> Place:
    return Place(broker.bootstrap_servers)


async def test_python_in_an_empty_environment(place: Place, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, timeout=120)
    python = str(tmp_path / "venv/bin/python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel(tmp_path))]
    subprocess.run(install, check=True, timeout=300)
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    )
    names = {line.split("==")[0] for line in listed.stdout.split()} - {"pip", "setuptools"}
    print(f"\nin the environment: {', '.join(sorted(names))}")
    assert "dial-results-client" in names
    assert not names & {"pydantic", "aiohttp", "prometheus-client", "structlog", "orjson"}
    (tmp_path / "subscriber.py").write_text(place.fill_in(snippet("python", "In Python, with the kit")))
    env = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    await receives_dedupes_and_starts_yesterday(place, [python, "subscriber.py"], tmp_path, env)


async def test_node(place: Place, tmp_path: Path) -> None:
    npm_install(tmp_path, KAFKAJS)
    (tmp_path / "subscriber.js").write_text(place.fill_in(snippet("javascript", "In Node")))
    env = os.environ | {"KAFKAJS_NO_PARTITIONER_WARNING": "1"}
    await receives_dedupes_and_starts_yesterday(place, [tool("node", "runs it"), "subscriber.js"], tmp_path, env)


async def test_go(place: Place, tmp_path: Path) -> None:
    go = tool("go", "builds it")
    (tmp_path / "main.go").write_text(place.fill_in(snippet("go", "In Go")))
    for arguments in (["mod", "init", "subscriber"], ["get", FRANZ_GO], ["mod", "tidy"], ["build", "-o", "subscriber"]):
        done = subprocess.run([go, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode and arguments[0] == "get":
            pytest.skip(f"SKIPPED: franz-go cannot be had: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr
    await receives_dedupes_and_starts_yesterday(place, [str(tmp_path / "subscriber")], tmp_path)
