from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ops import cli

_NO_JSON = {"up"}  # it stays up; what a script wants of it is in `up.json`
_HEAVY = ("aiokafka", "aiohttp", "asyncpg", "deltalake", "alembic", "pydantic", "rich")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_there_and_explains_itself(name: str) -> None:
    shown = CliRunner().invoke(cli.main, [name, "--help"])
    assert shown.exit_code == 0, shown.output
    assert "Usage:" in shown.output


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Give every command that does something, by its words."""

    def below(words: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield words, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found
                yield from below(f"{words} {name}".lstrip(), found)

    return below("", cli.main)


COMMANDS = dict(every_command())


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_says_what_it_does_and_how_and_what_its_options_are(words: str) -> None:
    command = COMMANDS[words]
    shown = " ".join(CliRunner().invoke(cli.main, [*words.split(), "--help"]).output.split())
    assert f"dial-results {words}" in shown.partition("Example")[2], "an example that can be copied"
    assert command.help
    options = [one for one in command.params if isinstance(one, click.Option)]
    assert [one.name for one in options if not one.help] == []
    assert ("--json" in {name for one in options for name in one.opts}) == (words not in _NO_JSON)


@pytest.mark.parametrize("words", COMMANDS)
def test_an_unknown_option_is_an_error_of_usage_everywhere(words: str) -> None:
    refused = CliRunner().invoke(cli.main, [*words.split(), "--no-such-option"])
    assert (refused.exit_code, "Usage:" in refused.output) == (2, True)


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


@pytest.mark.parametrize("ended", [click.Abort, KeyboardInterrupt])
def test_ctrl_c_and_a_question_without_an_answer_are_no_failed_check(
    monkeypatch: pytest.MonkeyPatch, ended: type[BaseException]
) -> None:
    def interrupted(_path: Path) -> None:
        raise ended

    monkeypatch.setattr("ops.token.load_merchants", interrupted)
    done = CliRunner().invoke(cli.main, ["token", "list", "acme"])
    assert (done.exit_code, "not done" in done.stderr) == (75, True)


def test_each_entry_is_a_command_of_that_name() -> None:
    group = cli.main
    assert isinstance(group, click.Group)
    context = click.Context(group)
    for name in cli.COMMANDS:
        command = group.get_command(context, name)
        assert isinstance(command, click.Command)
        assert command.name == name
