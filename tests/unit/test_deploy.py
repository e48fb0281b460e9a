from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from schemas.merchants import load_merchants

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
JOBS = {"topics", "migrate"}
OURS = set(SERVICES) - {"kafka", "postgres"}
LONG_RUNNING = set(SERVICES) - JOBS
SETTINGS = {
    "receiver": ["receiver.settings", "schemas.kafka"],
    "storage": ["consumers.settings", "schemas.kafka", "consumers.sinks.storage"],
    "analytics": ["consumers.settings", "schemas.kafka", "consumers.sinks.analytics"],
    "crm": ["consumers.settings", "schemas.kafka", "consumers.sinks.crm"],
    "topics": ["schemas.kafka"],
    "migrate": ["consumers.sinks.storage"],
}
MADE_UP = {"POSTGRES_PASSWORD": "a", "ANALYTICS_PSEUDONYM_KEY": "b", "CRM_TOKEN": "c"}


def documented_variables() -> dict[str, str]:
    lines = (ROOT / "deploy/env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_container_may_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] in ({"10001:10001"} if name in OURS else {"appuser", "postgres"})
    assert {"mem_limit", "pids_limit", "networks"} <= service.keys()
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices", "env_file"} & service.keys()


@pytest.mark.parametrize("name", sorted(LONG_RUNNING))
def test_a_long_running_service_says_how_it_is_and_may_finish(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert "curl" not in str(service["healthcheck"])
    assert int(service["stop_grace_period"].removesuffix("s")) >= 30
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(JOBS))
def test_a_job_ends_and_is_tried_again_a_few_times_only(name: str) -> None:
    assert SERVICES[name]["restart"] == "on-failure:5"
    assert "healthcheck" not in SERVICES[name]


def test_the_receiver_waits_for_nothing_and_consumers_for_topics() -> None:
    assert "depends_on" not in SERVICES["receiver"]
    waits = {name: {on: c["condition"] for on, c in s.get("depends_on", {}).items()} for name, s in SERVICES.items()}
    done = "service_completed_successfully"
    assert waits["storage"] == waits["crm"] == {"topics": done, "migrate": done}
    assert waits["analytics"] == {"topics": done}
    assert waits["topics"] == {"kafka": "service_healthy"}
    assert waits["migrate"] == {"postgres": "service_healthy"}


def test_only_the_callback_port_is_published_and_only_to_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"receiver": ["${CALLBACK_ADDRESS:-127.0.0.1}:${CALLBACK_PORT:-8080}:8080"]}


def test_only_the_receiver_and_the_crm_reach_beyond_the_stack() -> None:
    open_networks = {name for name, network in COMPOSE["networks"].items() if not network.get("internal")}
    assert open_networks == {"ingress", "egress"}
    assert [n for n, s in SERVICES.items() if "ingress" in s["networks"]] == ["receiver"]
    assert [n for n, s in SERVICES.items() if "egress" in s["networks"]] == ["crm"]


def test_what_must_last_lies_on_a_volume() -> None:
    assert COMPOSE["volumes"].keys() == {"journal", "delta", "sandbox-crm", "kafka", "postgres"}
    assert "journal:" + SERVICES["receiver"]["environment"]["RECEIVER_JOURNAL_DIR"] in SERVICES["receiver"]["volumes"]
    assert "delta:" + SERVICES["analytics"]["environment"]["ANALYTICS_URI"] in SERVICES["analytics"]["volumes"]


def test_no_secret_stands_in_what_is_committed() -> None:
    secret = re.compile(r"PASSWORD|TOKEN|KEY|DSN|SECRET")
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            assert not secret.search(variable) or "${" in value, (name, variable)
    assert not [name for name, value in documented_variables().items() if secret.search(name) and value]
    assert all(merchant.tokens == () for merchant in load_merchants(ROOT / "deploy/merchants.example.toml").values())


def test_every_variable_is_documented_or_has_a_default() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))
    assert used | {"COMPOSE_PROFILES"} == documented_variables().keys()


def settings_of(service: str) -> set[str]:
    names = set()
    for module in SETTINGS[service]:
        for thing in vars(importlib.import_module(module)).values():
            if isinstance(thing, type) and issubclass(thing, BaseSettings) and thing is not BaseSettings:
                prefix = thing.model_config.get("env_prefix", "")
                names |= {f"{prefix}{field}".upper() for field in thing.model_fields}
    return names


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_process_knows_every_variable_it_is_given(name: str) -> None:
    assert SERVICES[name]["environment"].keys() <= settings_of(name)


def test_the_sandbox_crm_reads_its_token() -> None:
    (variable,) = SERVICES["sandbox-crm"]["environment"]
    assert variable in (ROOT / "ops/standalone/crm.py").read_text()


def config(**variables: str) -> subprocess.CompletedProcess[str]:
    command = ["docker-compose", "--env-file", "deploy/env.example", "config", "--quiet"]
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="needs docker-compose")
def test_a_missing_secret_is_named_and_nothing_starts() -> None:
    complete = config(**MADE_UP)
    assert (complete.returncode, complete.stderr) == (0, "")
    for missing in MADE_UP:
        incomplete = config(**{name: value for name, value in MADE_UP.items() if name != missing})
        assert incomplete.returncode != 0
        assert f"set {missing} in .env" in incomplete.stderr
