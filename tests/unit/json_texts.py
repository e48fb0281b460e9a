"""JSON as text beside what it says: numbers are kept as their characters, so that one changed digit shows."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st


class Number(str):
    """A number, as the characters that came."""

    __slots__ = ()


def read(text: bytes | str) -> Any:
    """Read JSON with the standard library, every number as `Number`."""
    return json.loads(text, parse_int=Number, parse_float=Number)


def write(value: Any, space: str = "") -> str:
    """Write a value with `space` wherever JSON allows white space; numbers as they are."""
    match value:
        case Number():
            return str(value)
        case dict():
            inside = f"{space},{space}".join(f"{write(k)}{space}:{space}{write(v, space)}" for k, v in value.items())
            return "{" + space + inside + space + "}"
        case list():
            return "[" + space + f"{space},{space}".join(write(item, space) for item in value) + space + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)


_digits = st.integers(0, 10**40).map(str)
whole_numbers = st.builds(lambda sign, d: Number("0" if d == "0" else sign + d), st.sampled_from(["", "-"]), _digits)
fractions = st.builds(
    lambda n, f, e: Number(f"{n}.{f}{e}"),
    whole_numbers,
    st.text("0123456789", min_size=1, max_size=25),
    st.sampled_from(["", "e5", "E-7", "e+30", "e400"]),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ['}"', '",', '{"a":1}', "66635573. ", '"{', '\\"', "\u0000", "😀", "٣", '"}', "[", ": ", "-0"]
)
scalars = st.none() | st.booleans() | whole_numbers | fractions | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=20
)
objects = st.dictionaries(texts, values, min_size=1, max_size=5)
records = st.builds(
    lambda identity, rest, ext, call: rest | {"id": identity, "extVars": ext, "callVars": call},
    whole_numbers.filter(lambda number: len(number) <= 200),
    objects,
    objects,
    objects,
)
spaces = st.sampled_from(["", " ", "\n    ", "\r\n\t"])
