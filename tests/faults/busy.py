"""The attackers' processor time without the attack: `python -m tests.faults.busy SECONDS SHARE`.

Spends this share of a core, at the attackers' priority, a little at a time as they do, and talks to nobody: what the
legitimate load feels of it, it feels of the machine and not of the receiver.
"""

from __future__ import annotations

import os
import sys
import time

PAUSE_S = 0.005


def main() -> None:
    os.nice(10)
    seconds, share = float(sys.argv[1]), float(sys.argv[2])
    began, spent_before_s = time.monotonic(), time.process_time()
    while (elapsed_s := time.monotonic() - began) < seconds:
        if time.process_time() - spent_before_s >= elapsed_s * share:
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
