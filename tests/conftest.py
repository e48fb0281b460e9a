"""What all tests share: a real broker and database (tests/services.py), and how hard hypothesis tries."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from ops.standalone import jars, ports
from receiver.journal import JournalLimits

pytest_plugins = ["tests.services"]

# No deadline for one example: two shared cores stall now and then, and a stall is no finding. The same examples each
# time: what lands is what was tested. New ones are looked for by `HYPOTHESIS_PROFILE=thorough`.
settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.register_profile("thorough", settings.get_profile("default"), derandomize=False, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Nor is a disk that stalls for two seconds, or one that is nearly full, where a test does not say so itself.
JournalLimits.__init__.__kwdefaults__.update(commit_budget_s=60.0, disk_share=1.0)

# Two at a time choose ports out of different ranges: one could take what the other has chosen and not opened yet.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 4
ports._RANGE = range(20_000 + 3_000 * _WORKER, 23_000 + 3_000 * _WORKER)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it to what it runs behind its back
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or nothing that a test starts could be interrupted


def pytest_configure(config: pytest.Config) -> None:
    """Fetch Kafka's jars before several processes want them at once."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        jars.classpath()
