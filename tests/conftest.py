"""What all tests share: a real broker and database (tests/services.py), and how hard hypothesis tries."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from ops.standalone import jars

pytest_plugins = ["tests.services"]

# No deadline for one example: two shared cores stall now and then, and a stall is no finding.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("default"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it to what it runs behind its back
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or nothing that a test starts could be interrupted


def pytest_configure(config: pytest.Config) -> None:
    """Fetch Kafka's jars before several processes want them at once."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        jars.classpath()
