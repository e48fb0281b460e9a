"""The broker's jars: a committed list of coordinates and hashes; fetched one by one, verified, kept in a cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KAFKA_VERSION = "4.3.1"
_LIST = Path(__file__).with_name("kafka-jars.txt")
_THREADS = 16  # 92 small files; the time is waiting
_AGAIN_AFTER_S = (1.0, 5.0)  # of 92 downloads one meets a bad moment now and then


class JarError(Exception):
    """A jar cannot be had, or is not the one that was pinned; the message says which and what to do."""


class Jar(NamedTuple):
    """One line of the list."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


def pinned() -> list[Jar]:
    """Read the list."""
    lines = (line.replace(":", " ").split() for line in _LIST.read_text().splitlines())
    return [Jar(group, artifact, version, sha256) for group, artifact, version, sha256 in lines]


def cache_folder() -> Path:
    """Name the folder that all data folders and test runs of this user share."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "dial-results" / f"kafka-{KAFKA_VERSION}"


def classpath(progress: Callable[[int, int], None] = lambda _done, _all: None) -> str:
    """Return the broker's class path; fetch what is not in the cache yet. Blocks: about 25 s the first time.

    `progress` is told how many of how many are there; what it raises ends the fetching.

    Raises:
        JarError: a jar cannot be fetched, or its hash is not the pinned one.
    """
    folder, jars = cache_folder(), pinned()
    folder.mkdir(parents=True, exist_ok=True)
    missing = [jar for jar in jars if not _is_good(folder / jar.file_name, jar)]
    if missing:
        _fetch_all(missing, folder, lambda done: progress(len(jars) - len(missing) + done, len(jars)))
    return class_path()


def class_path() -> str:
    """Return the broker's class path, whether or not the jars are there yet."""
    return os.pathsep.join(str(cache_folder() / jar.file_name) for jar in pinned())


def _fetch_all(jars: Iterable[Jar], folder: Path, fetched: Callable[[int], None]) -> None:
    pool = ThreadPoolExecutor(_THREADS)
    try:
        for done, _ in enumerate(pool.map(lambda jar: _fetch(jar, folder), jars), 1):
            fetched(done)
    finally:
        pool.shutdown(cancel_futures=True)


def _fetch(jar: Jar, folder: Path) -> None:
    """Two processes may do this at once: each writes a file of its own and renames it into place."""
    source = _resolved(jar)
    if not _is_good(source, jar):
        source.unlink()
        raise JarError(f"{jar.file_name} is not the pinned file (SHA-256 differs); it was removed, try again")
    private = folder / f".{jar.file_name}.{os.getpid()}"
    shutil.copyfile(source, private)
    private.replace(folder / jar.file_name)


def _resolved(jar: Jar) -> Path:
    """Have Maven's cache hold it. Raises JarError where it cannot be fetched, time and again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs complains of a missing XDG_RUNTIME_DIR; nothing here needs it
        from jgo.maven import MavenContext  # noqa: PLC0415  # half a second that only a first start has to pay

    for wait_s in (*_AGAIN_AFTER_S, None):
        try:
            return Path(MavenContext().project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve())
        except (OSError, RuntimeError) as error:
            if wait_s is None:
                said = f"{jar.file_name} could not be fetched ({type(error).__name__}); is the network there?"
                raise JarError(said) from error
            time.sleep(wait_s)
    raise AssertionError


def _is_good(path: Path, jar: Jar) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
