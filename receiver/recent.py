"""A bounded memory of event ids, to count the results that come again: 200s that Blu did not see, or a double post."""

from __future__ import annotations


class Recent:
    """Remembers between `half` and twice as many of the latest ids: two generations, the older one forgotten whole."""

    def __init__(self, half: int = 50_000) -> None:
        """50,000 ids are 25 minutes at 33 results a second, and some 5 MB."""
        self._half = half
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()

    def seen(self, event_id: bytes) -> bool:
        """Tell whether it is remembered, and remember it."""
        known = event_id in self._young or event_id in self._old
        self._young.add(event_id)
        if len(self._young) >= self._half:
            self._young, self._old = set(), self._young
        return known
