"""`dial-results simulate`: posts like Blu against a running `up`, then compares what was promised with what arrived."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import sys
from datetime import datetime
from pathlib import Path
from typing import NoReturn
from zoneinfo import ZoneInfo

import click
from rich.console import Console

from ops.blu.ledger import LedgerError
from ops.blu.mishaps import Mishaps
from ops.blu.session import Plan, Target, run
from ops.blu.simulator import Manner
from ops.standalone.folder import DataFolder, default_folder, read_up
from ops.token import DEFAULT_TIMEZONE
from schemas.merchants import MerchantsFileError, load_merchants

CHECK_FAILED, TRY_LATER = 1, 75
_DEMO = "demo"


def _above(least: float) -> click.FloatRange:
    return click.FloatRange(least, min_open=True)


_share = click.FloatRange(0, 1)
_to_file = click.Path(dir_okay=False, path_type=Path)
_to_folder = click.Path(file_okay=False, path_type=Path)


@click.command(
    context_settings={"show_default": True},
    epilog="Example: dial-results simulate --count 10000 --rate 500",
)
@click.option("--count", default=1_000, type=click.IntRange(1, 9_000_000), help="Results to post.")
@click.option("--rate", default=200.0, type=_above(0), help="Results a second, whatever becomes of those before.")
@click.option(
    "--data", type=_to_folder, default=default_folder, show_default="as `up`", help="Folder of the running `up`."
)
@click.option(
    "--seed", type=click.IntRange(0), show_default="a new one", help="The same on one day makes the same results."
)
@click.option("--repeats", default=0.05, type=_share, help="Share of 200s that Blu does not hear, and so posts again.")
@click.option(
    "--lost", default=0.0, type=_share, help="Share of calls that are never posted; only the query tells them."
)
@click.option("--garbled", default=0.0, type=_share, help="Share of calls that are posted in GBK, not in UTF-8.")
@click.option("--query-port", type=click.IntRange(0, 65_535), help="Answer Blu's queryCallResult here until the end.")
@click.option("--speed", default=300.0, type=_above(0), help="Of Blu's clock: at 300 its 5 minutes pass in 1 s.")
@click.option("--concurrency", default=64, type=click.IntRange(1, 10_000), help="Posts under way at most.")
@click.option("--timeout", "timeout_s", default=5.0, type=_above(0), help="Seconds that Blu waits for an answer.")
@click.option("--url", show_default="that of `up`", help="Callback address to post to.")
@click.option("--compare/--no-compare", default=True, help="Compare with the sinks, or only post.")
@click.option("--patience", "patience_s", default=120.0, type=_above(0), help="Seconds to wait while no sink moves.")
@click.option("--ledger", type=_to_file, show_default="in --data", help="File for what was promised.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on standard output.")
def simulate(
    count: int,
    rate: float,
    data: Path,
    seed: int | None,
    repeats: float,
    lost: float,
    garbled: float,
    query_port: int | None,
    speed: float,
    concurrency: int,
    timeout_s: float,
    url: str | None,
    compare: bool,
    patience_s: float,
    ledger: Path | None,
    as_json: bool,
) -> None:
    """Post like Blu, then compare every promise with what the sinks hold.

    One record a call; only HTTP status 200 counts; anything else is retried every 5 minutes, 5 times at most. Exits
    with 0, or with 1 where a result was given up, is missing, or is there twice.
    """
    if lost and query_port is None:
        raise click.UsageError("--lost needs --query-port: nobody else could ever tell what is not posted")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a broker that is away shows in the summary
    console = Console(stderr=True)  # standard output is for --json alone
    target = _target(console, data, url, compare=compare)
    seed = secrets.randbelow(10**9) if seed is None else seed
    day = datetime.now(target.timezone).date()
    if ledger is None and target.up is not None:
        ledger = data / "simulator" / f"{day}-{seed}.jsonl"
    manner = Manner(rate, concurrency, timeout_s, repeats, seed)
    try:
        plan = Plan(count, seed, day, speed, manner, ledger, patience_s, Mishaps(lost, garbled, seed), query_port)
        good, summary = asyncio.run(run(target, plan, console))
    except LedgerError as error:
        raise click.ClickException(f"{error}") from error
    except OSError as error:
        raise click.ClickException(f"--query-port {query_port}: {error.strerror}") from error
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    sys.exit(0 if good else CHECK_FAILED)


def _target(console: Console, folder: Path, url: str | None, *, compare: bool) -> Target:
    """Find the running `up`, unless a URL is all that is asked for."""
    if url is not None and not compare:
        return Target(url, _DEMO, ZoneInfo(DEFAULT_TIMEZONE), None)
    up = read_up(folder)
    if up is None:
        _later(console, f"Nothing runs on {folder}: start `dial-results up --data {folder}` first, or name its --data.")
    if not any(_is_alive(pid) for pid in up["pids"].values() if pid):
        _later(console, f"The `up` of {folder} has ended: start `dial-results up --data {folder}` first.")
    timezone = _timezone(DataFolder(folder).merchants_file, up["merchant"])
    file = DataFolder(folder).merchants_file
    return Target(url or up["callback_url"], up["merchant"], timezone, up if compare else None, file)


def _later(console: Console, message: str) -> NoReturn:
    console.print(message, markup=False, soft_wrap=True)
    sys.exit(TRY_LATER)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, but alive
        return True
    return True


def _timezone(merchants_file: Path, merchant: str) -> ZoneInfo:
    try:
        return load_merchants(merchants_file)[merchant].timezone
    except MerchantsFileError as error:
        raise click.ClickException(f"{error}") from error
    except KeyError as error:
        raise click.ClickException(f"{merchants_file} has no merchant {merchant}") from error
