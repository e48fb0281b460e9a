"""A bounded memory of event ids, to count the results that come again: 200s that Blu did not see, or a double post."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Recent:
    """Remembers at least the `half` latest ids: two generations, the older one forgotten whole.

    Of each it keeps 64 bits, a third of the memory: that two ids of 100,000 share them happens once in a billion.
    """

    def __init__(self, half: int = 50_000) -> None:
        """50,000 ids are 25 minutes at 33 results a second, and some 4 MB."""
        self._half = half
        self._young: set[int] = set()
        self._old: set[int] = set()

    def repeats(self, event_ids: Sequence[bytes]) -> int:
        """Count those that are remembered, or stand here before; remember all of them."""
        ids = set(map(hash, event_ids))
        known = len(ids & self._young) + len((ids & self._old) - self._young)
        self._young |= ids
        if len(self._young) >= self._half:
            self._young, self._old = set(), self._young
        return len(event_ids) - len(ids) + known
