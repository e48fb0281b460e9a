"""What all tests share: a real broker and database (tests/services.py), and how hard hypothesis tries."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.services"]

# No deadline for one example: two shared cores stall now and then, and a stall is no finding.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("default"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it to what it runs behind its back
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or nothing that a test starts could be interrupted
