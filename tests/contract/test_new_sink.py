from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("consumers", "ops", "receiver", "schemas", "tests", "pyproject.toml")
SUITE = ("tests/contract/test_sinks.py", "-k", "lines or of_the_folder")
COMMAND = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *SUITE)


def code_of_the_readme() -> str:
    chapter = (ROOT / "README.md").read_text().partition("## Add a sink in one file")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", chapter, re.DOTALL)
    return str(code)


def suite_on(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run the contract suite on a copy of the repository that has one file more."""
    for name in PARTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)  # type: ignore[operator]
    (folder / "consumers" / "sinks" / "lines.py").write_text(code)
    command = (sys.executable, *COMMAND)
    return subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, check=False)


def test_a_sink_from_the_readme_alone_passes_this_suite_without_another_line_changed(tmp_path: Path) -> None:
    done = suite_on(tmp_path, code_of_the_readme())
    assert done.returncode == 0, done.stdout[-3_000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) >= 15


def test_the_suite_sees_a_sink_that_forgets_what_it_has(tmp_path: Path) -> None:
    code = code_of_the_readme().replace("if one.event.event_id not in known", "")
    done = suite_on(tmp_path, code)
    assert done.returncode == 1
    assert re.search(r"\d+ failed", done.stdout)
