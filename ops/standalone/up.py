"""`dial-results up`: the command. What it does is in `running.py`."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import click
from rich.console import Console

from ops.standalone.folder import PORTS, DataFolder, FolderInUse, default_folder
from ops.standalone.running import Running

CHECK_FAILED, TRY_LATER = 1, 75


def _ports(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, int]:
    fixed = {}
    for text in given:
        name, _, number = text.partition("=")
        if name not in PORTS or not number.isdecimal() or not 0 < int(number) < 65_536:  # noqa: PLR2004
            raise click.BadParameter(f"{text!r}: say NAME=NUMBER; names: {' '.join(PORTS)}")
        fixed[name] = int(number)
    return fixed


@click.command(epilog="Example: dial-results up --data /tmp/trial --check --port receiver=8080")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_folder,
    show_default="in your data home",
    help="Folder that keeps everything; a second `up` on it goes on with its data.",
)
@click.option("--check", is_flag=True, help="End after the proof: exit code 0, or 1 with the reason.")
@click.option(
    "--port",
    "fixed",
    multiple=True,
    callback=_ports,
    metavar="NAME=NUMBER",
    help="Fix a port, for example receiver=8080; may be given again. Others are chosen once, and kept.",
)
def up(data: Path, check: bool, fixed: dict[str, int]) -> None:
    """Run the whole pipeline on this machine, and prove that it works.

    Starts a real Kafka, PostgreSQL and sandbox CRM, the receiver and the three consumers, each a process of its own;
    posts Blu's documented callback and shows where it arrived; then shows the running numbers until Ctrl-C, which stops
    everything. Addresses, ports and secrets for scripts are in up.json of the data folder.

    Exit codes: 0 stopped, or proven; 1 it did not start, or was not proven; 75 another `up` runs on this folder.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it cannot do comes as an exception as well
    console, folder = Console(), DataFolder(data)
    try:
        with folder.locked():
            code = asyncio.run(Running(console, folder, fixed).run(check=check))
    except FolderInUse as error:
        click.echo(f"up: {error}", err=True)
        sys.exit(TRY_LATER)
    except OSError as error:
        click.echo(f"up: {folder.path}: {error.strerror or error}", err=True)
        sys.exit(CHECK_FAILED)
    sys.exit(code)
