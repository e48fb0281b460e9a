"""JSON without a changed digit: what the decoders and encoders of this package are built on."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from .repair import MAX_DEPTH

_LONG_NUMBER = 18  # characters; shorter ones fit the exponent of any decimal type


def _as_written(number: str) -> msgspec.Raw:
    """Keep a number that is not whole as its own characters: `1.50` and `1e400` go out as they came.

    Raises:
        decimal.InvalidOperation: the exponent is beyond what any reader could hold.
    """
    if len(number) > _LONG_NUMBER:
        Decimal(number)
    return msgspec.Raw(number)


FAILURES = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError, InvalidOperation)

_decoder = msgspec.json.Decoder(float_hook=_as_written)
_canonical = msgspec.json.Encoder(order="sorted")
_decimals = msgspec.json.Decoder(float_hook=Decimal)


def decode(text: bytes | str) -> Any:  # noqa: ANN401  # JSON is any of six types
    """Decode strict JSON; numbers that are not whole stay `msgspec.Raw`. Raises one of `FAILURES`."""
    return _decoder.decode(text)


def canonical(value: Any) -> bytes:  # noqa: ANN401
    """Encode what `decode` gave: keys sorted at every level, no white space, numbers with the digits that came."""
    return _canonical.encode(value)


def decode_decimals(text: bytes | msgspec.Raw) -> Any:  # noqa: ANN401
    """Decode strict JSON for use: numbers that are not whole as `Decimal`. Raises one of `FAILURES`."""
    return _decimals.decode(text)


_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"|([\[{])|[\]}]', re.DOTALL)


def too_deep(text: bytes) -> bool:
    """Tell whether valid JSON is nested deeper than `MAX_DEPTH`: one limit for every reader, whatever its stack."""
    if len(text) <= MAX_DEPTH or _count(text, b"{") + _count(text, b"[") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in _BRACKETS.finditer(text):
        if bracket[1]:
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif not bracket[0].startswith(b'"'):
            depth -= 1
    return False


_HIDING = re.compile(rb"\\u00")  # an escape that could stand for a colon or a minus; faster than `in` here


class _LossError(ValueError):
    pass


def _no_repeats(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise _LossError


def _no_negative_zero(number: str) -> None:
    if number == "-0":
        raise _LossError


def loses(text: bytes | str) -> bool:
    """Tell whether decoding valid JSON would drop something: a repeated key, or the sign of `-0`. Slow, thorough."""
    try:
        json.loads(text, object_pairs_hook=_no_repeats, parse_int=_no_negative_zero, parse_float=str)
    except _LossError:
        return True
    return False


def may_lose(text: bytes, *written: bytes) -> bool:
    """Tell quickly whether `loses` has to be asked: a lost key takes its colon along, a lost sign its minus.

    `written` is all that was decoded from `text`, encoded again. Escapes could hide either, so they count as a maybe.
    """
    again = b"".join(written)
    return (
        _count(text, b":") != _count(again, b":")
        or _count(text, b"-") != _count(again, b"-")
        or _HIDING.search(text) is not None
    )


def _count(text: bytes, character: bytes) -> int:
    """Count what is rare in the text: `replace` looks for it with memchr, `count` looks at every byte (3.11: 3 x)."""
    return len(text) - len(text.replace(character, b""))


def is_json(text: str) -> bool:
    """Tell whether the text is JSON by grammar alone, even where it cannot be represented (a lone surrogate)."""
    try:
        json.loads(text, parse_constant=_refuse, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(_constant: str) -> None:
    raise ValueError
