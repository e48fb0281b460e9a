"""How long to wait between tries."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Doubles from `first_s` up to `most_s`; each wait is drawn between half of that and all of it."""

    first_s: float = 0.2
    most_s: float = 10.0  # an outage that ends is noticed within this; a try costs the destination one connection

    def wait_s(self, failures: int, asked_s: float | None = None) -> float:
        """Return seconds to wait after this many failures in a row, the first being 1; at least what was asked for."""
        full = min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 30))
        jittered = full * random.uniform(0.5, 1.0)  # noqa: S311  # nobody has to guess it
        return jittered if asked_s is None else asked_s + full * random.uniform(0.0, 0.1)  # noqa: S311
