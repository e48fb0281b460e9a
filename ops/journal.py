"""`dial-results journal show|verify|drain|resend PATH`: look at a receiver's journal, or send what is in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NoReturn

import click
import orjson

from ops.drain import drain
from ops.resend import resend
from receiver.journal import Damage, SegmentSurvey, Survey, survey

CHECK_FAILED = 1

_path = click.argument("path", type=click.Path(exists=True, file_okay=False, readable=True, path_type=Path))
_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")


@click.group()
def journal() -> None:
    """Look at a receiver's journal, or send what is in it.

    show, verify and resend write nothing and take no lock: beside a running receiver, or on a volume whose receiver is
    gone. drain is for the latter.
    """


journal.add_command(drain)
journal.add_command(resend)


@journal.command(epilog="Example: dial-results journal show /var/lib/dial-results/journal")
@_path
@_as_json
def show(path: Path, as_json: bool) -> None:
    """Say what the journal in PATH holds. Reads its last segment, and of the others the first callbacks."""
    _print(_survey(path, read_whole=False), as_json)


@journal.command(epilog="Example: dial-results journal verify /var/lib/dial-results/journal --json")
@_path
@_as_json
def verify(path: Path, as_json: bool) -> None:
    """Read the whole journal in PATH and check every checksum. Exit code 1 if anything is damaged."""
    found = _survey(path, read_whole=True)
    _print(found, as_json)
    if not found.sound:
        raise SystemExit(CHECK_FAILED)


def _survey(path: Path, *, read_whole: bool) -> Survey:
    try:
        found = survey(path, read_whole=read_whole)
    except OSError as error:
        _fail(f"The journal cannot be read: {error.strerror}")
    if not found.segments and found.checkpoint == "none":
        raise click.BadParameter("there is no journal in this folder", param_hint="PATH")
    return found


def _fail(message: str) -> NoReturn:
    raise click.ClickException(message)


def _print(found: Survey, as_json: bool) -> None:
    click.echo(orjson.dumps(_as_dict(found), option=orjson.OPT_INDENT_2).decode() if as_json else _as_text(found))


def _as_dict(found: Survey) -> dict[str, object]:
    segments = [
        {**dataclasses.asdict(segment), "damages": [damage._asdict() for damage in segment.damages]}
        for segment in found.segments
    ]
    summary = {"last": found.last, "waiting": found.waiting, "sound": found.sound}
    return dataclasses.asdict(found) | summary | {"segments": segments}


def _as_text(found: Survey) -> str:
    lines = [f"{'segment':>12} {'bytes':>13} {'first':>13} {'last':>13} {'callbacks':>10}  state"]
    lines += [_row(segment) for segment in found.segments]
    waiting = f"last {found.last:,}, waiting {found.waiting:,}"
    lines += ["", f"published up to {found.published:,} (checkpoint: {found.checkpoint}), {waiting}"]
    lines += [_damage(damage) for damage in found.damages]
    lines += [f"set aside earlier: {name}, {size:,} bytes" for name, size in found.set_aside.items()]
    lines.append(_verdict(found))
    return "\n".join(lines)


def _row(segment: SegmentSurvey) -> str:
    first, last, callbacks = (
        "-" if number is None else f"{number:,}" for number in (segment.first, segment.last, segment.callbacks)
    )
    state = "damaged" if segment.damages else _STATES.get(segment.tail, segment.tail)
    empty = segment.tail == "clean" and segment.first is None
    return (
        f"{segment.number:>12} {segment.size_bytes:>13,} {first:>13} {last:>13} {callbacks:>10}"
        f"  {'prepared' if empty else state}"
    )


_STATES = {"clean": "good", "torn": "good, with an unfinished frame at the end", "unread": "not read"}


def _damage(damage: Damage) -> str:
    place = f"damaged: segment {damage.segment}, at {damage.offset:,}"
    return f"{place}: {damage.size_bytes:,} bytes, {damage.missing:,} callbacks known to be missing"


def _verdict(found: Survey) -> str:
    if not found.sound:
        return "DAMAGED: what is good is served all the same; docs/journal.md says what to do."
    return "Every checksum is right." if found.read_whole else "What was read is right; `verify` reads everything."
