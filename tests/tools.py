"""Tools that a test may need and a machine may lack: found, or skipped with a word on what is missing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def tool(name: str, why: str) -> str:
    """Return the full path of a program, or skip the test."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"SKIPPED for want of `{name}`: {why}")
    return found


def npm_install(folder: Path, *packages: str) -> None:
    """Install packages, by exact version, into `folder/node_modules`, or skip the test."""
    npm = tool("npm", f"installs {', '.join(packages)}")
    arguments = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), *packages]
    done = subprocess.run([npm, *arguments], capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        pytest.skip(f"SKIPPED: npm cannot install {', '.join(packages)}: {done.stderr[-300:]}")
