"""What every part of the benchmark is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Plan:
    """How long, how often, and where. `backlog` is in callbacks, None for the part's own."""

    folder: Path
    rounds: int
    seconds: float
    backlog: int | None = None
    writes: bool = False
    """Whether pictures go into docs/."""
    _folders: int = 0

    def new_folder(self) -> Path:
        """Name a folder that is not there yet."""
        self._folders += 1
        return self.folder / f"server-{self._folders}"

    def alternate(self, states: Sequence[T]) -> Iterator[tuple[int, T]]:
        """Yield each round's number and each state in turn, so that a slow minute of the machine hits them all."""
        for number in range(1, self.rounds + 1):
            yield from ((number, state) for state in states)


def median_of(rounds: Sequence[T], figure: Callable[[T], float]) -> float:
    return median(map(figure, rounds))


def spread_of(rounds: Sequence[T], figure: Callable[[T], float], form: str = ",.1f") -> str:
    """Return the median with the least and the greatest: `4.2 (3.9 - 5.0)`."""
    values = sorted(map(figure, rounds))
    return f"{median(values):{form}} ({values[0]:{form}} - {values[-1]:{form}})"
