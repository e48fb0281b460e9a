"""The README is held by the code: its settings are all there are, its commands exist, its links lead somewhere.

`UPDATE_README=1 make test ARGS=tests/unit/test_readme.py` writes the settings anew.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import click
import pytest
from pydantic_settings import BaseSettings

from consumers.settings import ConsumerSettings
from consumers.sinks.analytics import Settings as AnalyticsSettings
from consumers.sinks.crm import Settings as CrmSettings
from consumers.sinks.stdout import Settings as StdoutSettings
from consumers.sinks.storage import Settings as StorageSettings
from ops.cli import main
from receiver.settings import ReceiverSettings
from schemas.kafka import KafkaSettings

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TABLES: dict[str, type[BaseSettings]] = {
    "Kafka, every process": KafkaSettings,
    "Receiver": ReceiverSettings,
    "Every consumer": ConsumerSettings,
    "Sink `storage`": StorageSettings,
    "Sink `analytics`": AnalyticsSettings,
    "Sink `crm`": CrmSettings,
    "Sink `stdout`": StdoutSettings,
}


def table(title: str, settings: type[BaseSettings]) -> str:
    prefix = settings.model_config.get("env_prefix", "")
    lines = [f"| {title} | default | what |", "|---|---|---|"]
    for name, field in settings.model_fields.items():
        default = "required" if field.is_required() else f"`{field.get_default()}`"
        lines.append(f"| `{prefix}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def tables() -> str:
    return "\n\n".join(table(title, settings) for title, settings in TABLES.items())


def test_the_settings_are_those_of_the_code() -> None:
    before, rest = README.read_text().split("<!-- settings -->\n")
    written, after = rest.split("\n<!-- /settings -->")
    if os.environ.get("UPDATE_README"):
        README.write_text(f"{before}<!-- settings -->\n{tables()}\n<!-- /settings -->{after}")
        written = tables()
    assert written == tables(), "UPDATE_README=1 writes them anew"


def commands() -> list[str]:
    text = "\n".join(re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL))
    return [line.strip().removeprefix("$ ") for line in text.splitlines() if line.strip().startswith("$ ")]


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("dial-results")])
def test_every_command_exists_and_takes_these_options(line: str) -> None:
    words = shlex.split(line)[1:]
    context = click.Context(main)
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= known, line


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {line.split()[1] for line in commands() if line.startswith("make ")}
    assert {"up", "test"} <= named <= targets


@pytest.mark.parametrize("page", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_python_in_the_readme_compiles() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        compile(block, "README.md", "exec")
