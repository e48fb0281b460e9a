"""How long Blu goes on trying, and so how long we may refuse before a result is gone for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SLOT_S = 5 * 60.0  # Blu: "every 5 minutes retry once"
WINDOW_S = 5 * SLOT_S  # "5 retries maximum": the last try comes 25 minutes after the first
CLEAR = -1.0


class RetryWindow:
    """The first refusal starts a clock. A full slot without one clears it: whatever was refused has come again since.

    A stretch of refusals that reaches the end of the window counts as possibly lost, once.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns seconds and never goes back."""
        self._clock = clock
        self._first: float | None = None
        self._last = 0.0
        self._counted = False
        self.possibly_lost = 0

    def refused(self) -> None:
        """Note that a callback with a good token was refused."""
        now = self._clock()
        if self._first is None or now - self._last >= SLOT_S:
            self._first, self._counted = now, False
        self._last = now
        if not self._counted and now - self._first >= WINDOW_S:
            self._counted = True
            self.possibly_lost += 1

    def seconds_to_loss(self) -> float:
        """Return seconds until the first result refused in this stretch may be gone; CLEAR while there is none."""
        now = self._clock()
        if self._first is None or now - self._last >= SLOT_S:
            return CLEAR
        return max(0.0, self._first + WINDOW_S - now)
