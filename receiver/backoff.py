"""How long to wait between tries."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Doubles from `first_s` up to `most_s`; each wait is drawn between half of that and all of it."""

    first_s: float = 0.25
    most_s: float = 5.0  # an outage that ends is noticed within this; a try is one connection and one small request

    def wait_s(self, failures: int) -> float:
        """Return seconds to wait after this many failures in a row, the first one being 1."""
        full = min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return full * random.uniform(0.5, 1.0)  # noqa: S311  # nobody has to guess it
