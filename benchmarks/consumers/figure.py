"""What a benchmark of a sink comes to: each sink's module has `async def measure(scale: float) -> list[Figure]`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One figure beside its target. `ok` is None where nothing was asked for: a yardstick, a remark."""

    name: str
    target: str
    """As issue C words it, such as `>= 35,000`; empty without one."""
    reached: float
    unit: str
    ok: bool | None
    conditions: str = ""
