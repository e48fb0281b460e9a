"""`dial-results part`: hold one part of a running `up` down, or bring it back."""

from __future__ import annotations

import asyncio
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


@click.group()
def part() -> None:
    """Hold one part of a running `up` down, or bring it back.

    Parts: kafka postgres sandbox-crm receiver storage analytics crm. Each command returns when it is done.
    """


@part.command()
@_name
@_data
def stop(name: str, data: Path) -> None:
    """Ask NAME to end, and hold it down."""
    _act(data, name, "stop")


@part.command()
@_name
@_data
def kill(name: str, data: Path) -> None:
    """End NAME at once, as `kill -9` does, and hold it down."""
    _act(data, name, "kill")


@part.command()
@_name
@_data
def start(name: str, data: Path) -> None:
    """Bring NAME back, and wait until it answers."""
    _act(data, name, "start")


def _act(data: Path, name: str, action: str) -> None:
    try:
        pid = asyncio.run(ask(DataFolder(data), name, action))
    except UnknownPart as error:
        _end(USAGE, f"there is no part {name!r}; {error}")
    except NotRunning as error:
        _end(TRY_LATER, str(error))
    except PartError as error:
        _end(CHECK_FAILED, str(error))
    click.echo(f"{name} is down, and held there" if pid is None else f"{name} runs: pid {pid}")


def _end(code: int, message: str) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)
