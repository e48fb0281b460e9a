from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from ops import cli

_HEAVY = ("aiokafka", "aiohttp", "asyncpg", "deltalake", "alembic", "pydantic", "rich")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_there_and_explains_itself(name: str) -> None:
    shown = CliRunner().invoke(cli.main, [name, "--help"])
    assert shown.exit_code == 0, shown.output
    assert "Usage:" in shown.output


def test_help_names_every_command_and_loads_none() -> None:
    program = f"""
import sys
from ops.cli import main
try:
    main(["--help"])
except SystemExit as ended:
    assert ended.code == 0
loaded = [name for name in {_HEAVY} if name in sys.modules]
assert not loaded, loaded
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert all(f"\n  {name} " in shown.stdout for name in cli.COMMANDS)
    assert "MISSING" not in shown.stdout


def test_what_is_missing_is_said_and_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, "console", ("ops.nowhere:console", "A page for operators."))
    listed = CliRunner().invoke(cli.main, ["--help"])
    assert "A page for operators. (MISSING" in " ".join(listed.output.split())
    asked = CliRunner().invoke(cli.main, ["console"])
    assert asked.exit_code == 1
    assert "`console` is not part of this installation: ops.nowhere is missing" in asked.output


def test_an_unknown_command_is_an_error_of_usage() -> None:
    refused = CliRunner().invoke(cli.main, ["nonsense"])
    assert refused.exit_code == 2
    assert "No such command 'nonsense'" in refused.output


def test_each_entry_is_a_command_of_that_name() -> None:
    group = cli.main
    assert isinstance(group, click.Group)
    context = click.Context(group)
    for name in cli.COMMANDS:
        command = group.get_command(context, name)
        assert isinstance(command, click.Command)
        assert command.name == name
