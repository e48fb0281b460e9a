"""JSON as Blu writes it: well, or with the two defects of its own page (`callback-page.txt`, "Body Params").

Written by hand, and with nothing of `schemas`: the simulator must know by itself what a body says, or it could not
tell when the receiver reads it wrongly.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


class Digits(str):
    """A number by its digits: `1.50` is written as `1.50`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Stopped:
    """A whole number followed by a full stop where the comma belongs: the first defect."""

    number: int


@dataclass(frozen=True, slots=True)
class Unescaped:
    """An object inside an unescaped string: the second defect. It must not be empty, or there is nothing to escape."""

    inside: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Style:
    """How JSON is laid out. `indent` counts spaces a level; None keeps all on one line."""

    indent: int | None = None
    comma: str = ","
    colon: str = ":"
    ascii_only: bool = False
    sort_keys: bool = False


CANONICAL = Style(sort_keys=True)
DOCUMENTED = Style(indent=4, colon=": ")
_INSIDE = Style(comma=", ", colon=": ")


def write(value: Any, style: Style, level: int = 0) -> str:  # noqa: ANN401  # JSON is any of six types
    """Write a value of dicts, lists, texts, whole numbers, `Digits`, booleans, None, and the two defects."""
    match value:
        case Digits():
            return str(value)
        case Stopped(number):
            return str(number)
        case Unescaped(inside):
            return f'"{write(inside, _INSIDE)}"'
        case dict():
            return _object(value, style, level)
        case list():
            return _array(value, style, level)
        case _:
            return json.dumps(value, ensure_ascii=style.ascii_only)


def _object(members: dict[str, Any], style: Style, level: int) -> str:
    names = sorted(members) if style.sort_keys else list(members)
    pieces: list[str] = []
    for name in names:
        text = f"{json.dumps(name, ensure_ascii=style.ascii_only)}{style.colon}{write(members[name], style, level + 1)}"
        pieces += (text, "." if isinstance(members[name], Stopped) else style.comma)
    return _enclosed("{}", pieces, style, level)


def _array(values: list[Any], style: Style, level: int) -> str:
    pieces: list[str] = []
    for value in values:
        pieces += (write(value, style, level + 1), style.comma)
    return _enclosed("[]", pieces, style, level)


def _enclosed(brackets: str, pieces: list[str], style: Style, level: int) -> str:
    """Join texts and the separators behind them; the last separator goes."""
    if not pieces:
        return brackets
    before, after = ("", "") if style.indent is None else (_line(style, level + 1), _line(style, level))
    texts = (before + text for text in pieces[::2])
    separators = [separator.rstrip() if before else separator for separator in pieces[1:-1:2]]
    inside = "".join(text + separator for text, separator in zip(texts, [*separators, ""], strict=True))
    return f"{brackets[0]}{inside}{after}{brackets[1]}"


def _line(style: Style, level: int) -> str:
    return "\n" + " " * ((style.indent or 0) * level)
