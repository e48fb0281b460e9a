"""`dial-results topics apply` against a real broker."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ops import topics
from ops.cli import main
from ops.topics import TopicRefused, apply
from schemas.topics import TopicSpec
from tests.services import free_port


@pytest.fixture
def options(broker: Any) -> dict[str, Any]:
    return {"bootstrap_servers": broker.bootstrap_servers}


@pytest.fixture
def specs() -> list[TopicSpec]:
    """Two topics of names that no other test has."""
    name = f"topics-{uuid.uuid4().hex[:8]}"
    return [TopicSpec(f"{name}.a", 3, 1, {"retention.ms": "1000"}), TopicSpec(f"{name}.b", 1, 1)]


async def test_creates_what_is_missing_and_does_it_once(options: dict[str, Any], specs: list[TopicSpec]) -> None:
    names = [spec.name for spec in specs]
    assert await apply(options, specs) == (names, [])
    assert await apply(options, specs) == ([], [])


async def test_a_dry_run_creates_nothing(options: dict[str, Any], specs: list[TopicSpec]) -> None:
    assert (await apply(options, specs, dry_run=True)).created == [spec.name for spec in specs]
    assert (await apply(options, specs)).created == [spec.name for spec in specs]


async def test_differences_are_reported_and_left_alone(options: dict[str, Any], specs: list[TopicSpec]) -> None:
    await apply(options, specs)
    name = specs[0].name
    wanted = [TopicSpec(name, 12, 3, {"retention.ms": "2000", "max.message.bytes": "2097152"})]
    said = [
        f"{name}: partitions is 3, should be 12",
        f"{name}: replicas is 1, should be 3",
        f"{name}: retention.ms is 1000, should be 2000",
    ]
    found = await apply(options, wanted)
    assert found.created == []
    assert found.differences[:3] == said
    assert (await apply(options, specs)).differences == []


async def test_what_the_cluster_refuses_is_said(options: dict[str, Any], specs: list[TopicSpec]) -> None:
    too_many = [TopicSpec(specs[0].name, 1, 3)]  # the one broker cannot hold three copies
    with pytest.raises(TopicRefused, match=rf"{specs[0].name}: InvalidReplicationFactorError"):
        await apply(options, too_many)


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["topics", "apply", *arguments])


def test_the_command_end_to_end(broker: Any) -> None:
    here = ("--bootstrap-servers", broker.bootstrap_servers, "--replication-factor", "1")
    first = command(*here)
    assert first.exit_code == 0, first.output
    again = command(*here)
    assert again.exit_code == 0
    assert again.output == "topics: all there, all as they should be\n"
    said = {"dry_run": False, "created": [], "differences": []}
    assert json.loads(command(*here, "--json").output) == said
    three = command("--bootstrap-servers", broker.bootstrap_servers)
    assert three.exit_code == 1
    assert "dial-results: replicas is 1, should be 3" in three.output


def test_no_broker_means_try_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "_ANSWER_S", 2.0)
    away = command("--bootstrap-servers", f"127.0.0.1:{free_port()}")
    assert away.exit_code == 75
    assert "no answer from Kafka" in away.output


def test_settings_that_cannot_be_are_an_error_of_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SMOKE")
    wrong = command()
    assert wrong.exit_code == 2
    assert "KAFKA_SECURITY_PROTOCOL" in wrong.output
