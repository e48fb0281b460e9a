"""The distribution for subscribers stands alone: what it holds needs nothing that it does not hold or name."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

import pytest

from schemas import publish

KIT = tomllib.loads((publish.FOLDER / "pyproject.toml").read_text())
HELD = KIT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
MODULES = [name for name in HELD if name.endswith(".py")]
NEEDED = {"aiokafka", "msgspec"} | sys.stdlib_module_names


def test_its_version_is_that_of_the_contract() -> None:
    assert KIT["project"]["version"] == publish.VERSION


@pytest.mark.parametrize("name", HELD)
def test_what_it_holds_is_there(name: str) -> None:
    assert (publish.FOLDER / name).exists()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_nothing_from_outside(module: str) -> None:
    for node in ast.walk(ast.parse((publish.FOLDER / module).read_text())):
        if isinstance(node, ast.Import):
            assert {name.name.split(".")[0] for name in node.names} <= NEEDED
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert str(node.module).split(".")[0] in NEEDED
        elif isinstance(node, ast.ImportFrom):
            sources = [node.module] if node.module else [name.name for name in node.names]
            assert {f"{source}.py" for source in sources} <= set(MODULES)


def test_it_needs_only_what_it_says() -> None:
    named = {line.split(">=")[0] for line in KIT["project"]["dependencies"]}
    assert named == {"aiokafka", "cramjam", "msgspec"}
    main = tomllib.loads(Path(publish.FOLDER.parent / "pyproject.toml").read_text())["project"]["dependencies"]
    assert set(KIT["project"]["dependencies"]) <= set(main)  # the same bounds as the pipeline that tests them
