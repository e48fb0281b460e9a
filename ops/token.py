"""`dial-results token`: the secrets in Blu's callback addresses, kept in the merchants' file as hashes alone."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import sys
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click
import tomlkit
from rich.console import Console
from rich.table import Table

from schemas.merchants import MerchantsFileError, load_merchants

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN_BYTES = 32  # 256 bits
DEFAULT_TIMEZONE = "Asia/Kuala_Lumpur"
_NAME = re.compile(r"[a-z0-9-]{1,63}")
_HEADING = "Who may post, and where a merchant's local times are. Of a token, only its SHA-256 is here."


def new_token(path: Path, merchant: str, timezone: str = DEFAULT_TIMEZONE) -> str:
    """Make a token for the merchant and add its hash to the file; file and merchant are made if they are missing.

    `timezone` is set for a new merchant only. The token is returned, and is nowhere else.

    Raises:
        MerchantsFileError: the file there cannot be read, or the name cannot be a merchant's.
        OSError: it cannot be replaced.
    """
    if not _NAME.fullmatch(merchant):
        raise MerchantsFileError(
            f"{merchant!r} cannot be a merchant's name: small letters, digits and hyphens, 63 at most"
        )
    token = secrets.token_urlsafe(TOKEN_BYTES)
    with _edited(path) as tables:
        if merchant not in tables:
            tables[merchant] = {"timezone": timezone}
        if "tokens" not in tables[merchant]:
            tables[merchant]["tokens"] = tomlkit.aot()
        tables[merchant]["tokens"].append(_hashed(token))
    return token


def retire_token(path: Path, merchant: str, token_id: str) -> bool:
    """Take a token out of the file; return False where there is none of that id. Raises as `new_token` does."""
    with _edited(path) as tables:
        tokens = tables.get(merchant, {}).get("tokens", [])
        places = [place for place, token in enumerate(tokens) if token["id"] == token_id]
        for place in reversed(places):
            del tokens[place]
        if places and not tokens:
            del tables[merchant]["tokens"]
    return bool(places)


def set_query(path: Path, merchant: str, url: str, app_id: str, app_key: str) -> None:
    """Write down how Blu's query is asked for this merchant's results. Raises as `new_token` does."""
    with _edited(path) as tables:
        tables[merchant]["query"] = {"url": url, "app_id": app_id, "app_key": app_key}


def _hashed(token: str) -> dict[str, Any]:
    """Describe a token. The id is shown in logs and metrics, so it is random and not a part of the hash."""
    sha256 = hashlib.sha256(token.encode()).hexdigest()
    return {"id": f"t-{secrets.token_hex(4)}", "sha256": sha256, "created": datetime.now(UTC).date()}


@contextmanager
def _edited(path: Path) -> Iterator[Any]:
    """Hold the folder's lock, give out the file's tables (comments included), and replace it by what became of them."""
    path = path.resolve()  # a symbolic link stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        tables = _read(path)
        yield tables
        _replace(path, tomlkit.dumps(tables))
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> tomlkit.TOMLDocument:
    if path.exists():
        load_merchants(path)  # says what is wrong with it, and where
        return tomlkit.parse(path.read_text(encoding="utf-8"))
    tables = tomlkit.document()
    tables.add(tomlkit.comment(_HEADING))
    return tables


def _replace(path: Path, text: str) -> None:
    """Replace the file in one step: a reader sees the old one or the new one, with the owner and mode it had."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            _take_over(path, file.fileno())
            os.fsync(file.fileno())
        load_merchants(Path(temporary))
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _take_over(path: Path, descriptor: int) -> None:
    if not path.exists():
        return
    before = path.stat()
    os.fchmod(descriptor, before.st_mode & 0o777)
    if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(descriptor, before.st_uid, before.st_gid)


def _timezone(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise click.BadParameter(f"{value!r} is no time zone; one is {DEFAULT_TIMEZONE}") from error
    return value


def _merchant(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise click.BadParameter("small letters, digits and hyphens, 63 at most")
    return value


_file = click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("merchants.toml"),
    envvar="RECEIVER_MERCHANTS_FILE",
    show_default=True,
    show_envvar=True,
    help="The merchants' file.",
)
_who = click.argument("merchant", callback=_merchant)
_json = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except MerchantsFileError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error


@click.group()
def token() -> None:
    """Make, list and retire the secrets in Blu's callback addresses."""


@token.command(epilog="Example: dial-results token new acme --timezone Asia/Manila")
@_who
@_file
@click.option("--timezone", default=DEFAULT_TIMEZONE, show_default=True, callback=_timezone, help="Of a new merchant.")
@_json
def new(merchant: str, path: Path, timezone: str, as_json: bool) -> None:
    """Make a token for MERCHANT and show it, this once; the file keeps its hash."""
    with _explained(path):
        secret = new_token(path, merchant, timezone)
        token_id = load_merchants(path)[merchant].tokens[-1].id
    if as_json:
        told = {"merchant": merchant, "id": token_id, "token": secret, "path": f"/callbacks/{secret}"}
        click.echo(json.dumps(told))
        return
    click.echo(f"Token {token_id} of {merchant}, shown this once:\n\n  {secret}\n")
    click.echo(f"The path to give to Blu, behind the receiver's public address:\n\n  /callbacks/{secret}\n")
    click.echo(
        f"Its hash is in {path}. Blu retries for 25 minutes: retire an older token a day after Blu uses this one."
    )


@token.command("list", epilog="Example: dial-results token list acme")
@_who
@_file
@_json
def list_(merchant: str, path: Path, as_json: bool) -> None:
    """List the tokens of MERCHANT by id and creation date."""
    with _explained(path):
        known = load_merchants(path).get(merchant)
    if known is None:
        raise click.ClickException(f"{path} has no merchant {merchant}; `dial-results token new {merchant}` makes it")
    if as_json:
        click.echo(json.dumps([{"id": each.id, "created": f"{each.created}"} for each in known.tokens]))
        return
    table = Table("id", "created", title=f"Tokens of {merchant}")
    for each in known.tokens:
        table.add_row(each.id, f"{each.created}")
    Console().print(table)


@token.command(epilog="Example: dial-results token retire acme t-9f2c51ab")
@_who
@click.argument("token_id", metavar="ID")
@_file
@click.option("--yes", is_flag=True, help="Do not ask, not even for the last token.")
@_json
def retire(merchant: str, token_id: str, path: Path, yes: bool, as_json: bool) -> None:
    """Retire the token ID of MERCHANT: callbacks that still carry it are answered 404, and lost after 25 minutes."""
    with _explained(path):
        known = load_merchants(path).get(merchant)
        ids = [each.id for each in known.tokens] if known else []
        if ids == [token_id] and not yes:
            click.confirm(
                f"It is the last token of {merchant}: nothing that Blu posts will be taken. Retire it?",
                abort=True,
                err=True,
            )
        if not retire_token(path, merchant, token_id):
            click.echo(f"{merchant} has no token {token_id}; `dial-results token list {merchant}` shows them", err=True)
            sys.exit(1)
    retired = {"merchant": merchant, "id": token_id, "retired": True}
    click.echo(json.dumps(retired) if as_json else f"Token {token_id} of {merchant} is retired.")
