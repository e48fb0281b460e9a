"""One dead letter for a person's eyes: who is meant and what they said is masked, unless asked for and on record."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from schemas import exact, wire
from schemas.merchants import Fields

if TYPE_CHECKING:
    from .letters import Letter

MASK = "***"
_FIELDS = Fields()
_PLAIN = {"id", "taskId", *_FIELDS.conclusion, *_FIELDS.called_at, *_FIELDS.duration_s}


def shown(letter: Letter, *, unmask: bool) -> dict[str, Any]:
    """Return place, headers and content of a dead letter. Masked: all but ids, conclusion, time, duration."""
    record = letter.record
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    return {
        "place": f"{record.partition}:{record.offset}",
        "settled": letter.settled,
        "headers": headers,
        "content": _content(record.value, unmask=unmask),
    }


def _content(value: bytes | None, *, unmask: bool) -> Any:  # noqa: ANN401  # JSON, or what came instead
    try:
        record = wire.decode(value).record()
    except wire.InvalidRecord as error:
        return (value or b"").decode(errors="replace") if unmask else f"{error.reason}: {len(value or b'')} bytes"
    whole = json.loads(exact.canonical(exact.decode(wire.decode(value).result)))
    return whole if unmask else {name: whole[name] if name in _PLAIN else masked(one) for name, one in record.items()}


def masked(value: Any) -> Any:  # noqa: ANN401
    """Replace every value by asterisks, and keep the shape."""
    if isinstance(value, dict):
        return {name: masked(one) for name, one in value.items()}
    if isinstance(value, list):
        return [masked(one) for one in value]
    return value if value is None or isinstance(value, bool) else MASK
