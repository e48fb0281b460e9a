from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from ops.standalone import jars


class Maven:
    """Stands for jgo's context: fails as often as it is told, then has the file."""

    def __init__(self, source: Path, failures: int) -> None:
        self.source, self.failures, self.asked = source, failures, 0

    def __call__(self) -> Any:
        return self

    def __getattr__(self, _name: str) -> Any:
        return lambda *_: self

    def resolve(self) -> Path:
        self.asked += 1
        if self.asked <= self.failures:
            raise ConnectionResetError
        return self.source


@pytest.mark.parametrize(("failures", "asked"), [(0, 1), (2, 3), (3, 3)])
def test_a_download_that_fails_is_tried_again_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, asked: int
) -> None:
    source = tmp_path / "cached.jar"
    source.write_bytes(b"made up")
    maven = Maven(source, failures)
    monkeypatch.setattr("jgo.maven.MavenContext", maven)
    monkeypatch.setattr(jars, "_AGAIN_AFTER_S", (0.0, 0.0))
    jar = jars.Jar("group", "artifact", "1", hashlib.sha256(b"made up").hexdigest())
    if failures == asked:
        with pytest.raises(jars.JarError, match="is the network there"):
            jars._fetch(jar, tmp_path)
    else:
        jars._fetch(jar, tmp_path)
        assert (tmp_path / jar.file_name).read_bytes() == b"made up"
    assert maven.asked == asked
