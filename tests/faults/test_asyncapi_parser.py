"""The AsyncAPI document before the judge that its own community keeps. Slow for its installation, not for its work."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from schemas import publish
from tests.tools import npm_install, tool

PARSER = "@asyncapi/parser@3.6.6"
ASK = """
const { Parser } = require('@asyncapi/parser');
const { readFileSync } = require('fs');
new Parser().parse(readFileSync(process.argv[2], 'utf8')).then(({ document, diagnostics }) => {
  const found = diagnostics.filter((d) => d.severity < 2).map((d) => `${d.path.join('.')}: ${d.message}`);
  const channels = document ? document.channels().all().map((c) => c.address()) : [];
  console.log(JSON.stringify({ found, channels }));
});
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parser")
    npm_install(folder, PARSER)
    (folder / "ask.js").write_text(ASK)
    return folder


def judged(folder: Path, text: str) -> dict[str, list[str]]:
    (folder / "asyncapi.yaml").write_text(text)
    command = [tool("node", "runs the parser"), "ask.js", "asyncapi.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    verdict: dict[str, list[str]] = json.loads(done.stdout)
    return verdict


@pytest.mark.faults
def test_the_published_document_has_no_error_and_no_warning(folder: Path) -> None:
    verdict = judged(folder, (publish.FOLDER / "asyncapi.yaml").read_text())
    assert verdict == {"found": [], "channels": ["dial-results", "dial-results.erased"]}


@pytest.mark.faults
@pytest.mark.parametrize(
    ("right", "wrong"),
    [("action: send", "action: sent"), ("messages/dialResult'", "messages/nowhere'"), ("address:", "adress:")],
)
def test_the_parser_would_have_seen_a_mistake(folder: Path, right: str, wrong: str) -> None:
    text = (publish.FOLDER / "asyncapi.yaml").read_text()
    assert right in text
    assert judged(folder, text.replace(right, wrong))["found"]
