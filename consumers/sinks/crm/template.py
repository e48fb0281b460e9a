"""Templates of the generic webhook: `{name}` in any string of any JSON shape stands for a value of the item."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PLACE = re.compile(r"\{([^{}]*)\}")


def rendered(shape: Any, values: Mapping[str, str]) -> Any:  # noqa: ANN401  # JSON
    """Return the shape with values. A string that is one place and has no value becomes null."""
    if isinstance(shape, dict):
        return {key: rendered(value, values) for key, value in shape.items()}
    if isinstance(shape, list):
        return [rendered(value, values) for value in shape]
    if not isinstance(shape, str):
        return shape
    if alone := _PLACE.fullmatch(shape):
        return values.get(alone[1]) or None
    return _PLACE.sub(lambda place: values.get(place[1], ""), shape)


def quoted(path: str, values: Mapping[str, str]) -> str:
    """Return a path with values, each quoted as one segment."""
    return _PLACE.sub(lambda place: quote(values.get(place[1], ""), safe=""), path)


def places(shape: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401  # JSON
    """Give every place of a shape: where in it, and the name."""
    if isinstance(shape, dict | list):
        for key, value in shape.items() if isinstance(shape, dict) else enumerate(shape):
            for where, name in places(value):
                yield f"{key}.{where}" if where else str(key), name
    elif isinstance(shape, str):
        for place in _PLACE.finditer(shape):
            yield "", place[1]
