"""`dial-results part`: hold one part of a running `up` down, or bring it back."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import NoReturn

import click

from ops.standalone.control import NotRunning, UnknownPart, ask
from ops.standalone.folder import DataFolder, default_folder
from ops.standalone.supervisor import PartError

CHECK_FAILED, USAGE, TRY_LATER = 1, 2, 75

_name = click.argument("name")
_data = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_folder,
    show_default="as `up`",
    help="Folder of the running `up`.",
)

_as_json = click.option("--json", "as_json", is_flag=True, help="The part and its pid, null while it is down, as one JSON object.")  # fmt: skip  # noqa: E501


@click.group()
def part() -> None:
    """Hold one part of a running `up` down, or bring it back.

    Parts: kafka postgres sandbox-crm receiver storage analytics crm. Each command returns when it is done.
    """


@part.command(epilog="Example: dial-results part stop kafka")
@_name
@_data
@_as_json
def stop(name: str, data: Path, as_json: bool) -> None:
    """Ask NAME to end, and hold it down."""
    _act(data, name, "stop", as_json=as_json)


@part.command(epilog="Example: dial-results part kill receiver")
@_name
@_data
@_as_json
def kill(name: str, data: Path, as_json: bool) -> None:
    """End NAME at once, as `kill -9` does, and hold it down."""
    _act(data, name, "kill", as_json=as_json)


@part.command(epilog="Example: dial-results part start kafka")
@_name
@_data
@_as_json
def start(name: str, data: Path, as_json: bool) -> None:
    """Bring NAME back, and wait until it answers."""
    _act(data, name, "start", as_json=as_json)


def _act(data: Path, name: str, action: str, *, as_json: bool) -> None:
    try:
        pid = asyncio.run(ask(DataFolder(data), name, action))
    except UnknownPart as error:
        _end(USAGE, f"there is no part {name!r}; {error}")
    except NotRunning as error:
        _end(TRY_LATER, str(error))
    except PartError as error:
        _end(CHECK_FAILED, str(error))
    if as_json:
        click.echo(json.dumps({"part": name, "pid": pid}))
    else:
        click.echo(f"{name} is down, and held there" if pid is None else f"{name} runs: pid {pid}")


def _end(code: int, message: str) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)
