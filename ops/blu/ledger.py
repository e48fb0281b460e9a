"""What Blu was promised: an append-only record, one JSON line an entry, without a word of what the bodies say.

Two kinds of lines. Before the first attempt of a call task, what is about to be posted: `call task record body event
called_at`, with the SHA-256 of the body and the event id that its content must get. After each attempt, what came of
it: `event attempt status ms at`. A run that continues with the same file continues the promises, too.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Self

import orjson

from schemas.event import event_id

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from .bodies import Callback

OK = 200
BY_QUERY = "by-query"
"""In place of a status: never posted, but told to whoever asks by Blu's query."""
Status = int | str  # an HTTP status, or in one word what came instead


class LedgerError(Exception):
    """The ledger's file cannot be used; the message says why."""


@dataclass(slots=True)
class Entry:
    """One call task. `statuses` has one a finished attempt, in order."""

    task_id: str
    record_id: str
    body_sha256: str
    event_id: str
    called_at: datetime | None
    statuses: list[Status] = field(default_factory=list)

    @property
    def promised(self) -> bool:
        """Whether a 200 was seen, or a query would tell: from then on the result must not be lost."""
        return OK in self.statuses or BY_QUERY in self.statuses


class Ledger:
    """Knows every call task of this run and of earlier runs on the same file; None keeps it in memory alone."""

    def __init__(self, merchant: str, path: Path | None = None) -> None:
        self.merchant = merchant
        self.entries: dict[str, Entry] = {}  # by event id
        self._file = None if path is None else self._open(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()

    def call(self, callback: Callback) -> Entry:
        """Write down what is about to be posted, once."""
        event = event_id(self.merchant, callback.task_id, callback.record_id, callback.canonical)
        sha256 = hashlib.sha256(callback.body).hexdigest()
        if event not in self.entries:
            called_at = callback.called_at and callback.called_at.isoformat()
            place = {"task": callback.task_id, "record": callback.record_id, "merchant": self.merchant}
            self._append({"call": callback.number, **place, "body": sha256, "event": event, "called_at": called_at})
        return self.entries[event]

    def attempt(self, entry: Entry, status: Status, seconds: float) -> None:
        """Write down what came of an attempt to post."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        outcome = {"attempt": len(entry.statuses) + 1, "status": status, "ms": round(seconds * 1000, 3), "at": at}
        self._append({"event": entry.event_id} | outcome)

    def promised(self) -> list[Entry]:
        """Return the entries for which a 200 was seen, or which a query would tell."""
        return [entry for entry in self.entries.values() if entry.promised]

    def _append(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        self._apply(line)

    def _apply(self, line: dict[str, Any]) -> None:
        if "attempt" in line:
            self.entries[line["event"]].statuses.append(line["status"])
            return
        called_at = line["called_at"] and datetime.fromisoformat(line["called_at"])
        self.entries[line["event"]] = Entry(line["task"], line["record"], line["body"], line["event"], called_at)

    def _open(self, path: Path) -> IO[bytes]:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)  # unbuffered: a killed simulator still knows what it was promised
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.seek(0)
            self._continue(file, file.read().splitlines(keepends=True))
        except BlockingIOError as error:
            file.close()
            raise LedgerError(f"{path} is being written by another simulator: take another --seed, or wait") from error
        except (orjson.JSONDecodeError, LookupError, TypeError) as error:
            file.close()
            raise LedgerError(
                f"{path} is no ledger of the simulator: take another --ledger, or move it away"
            ) from error
        return file

    def _continue(self, file: IO[bytes], lines: Iterable[bytes]) -> None:
        """Take over what the file says; a last line that was cut off by a crash was never finished, and goes."""
        whole = 0
        for line in lines:
            if not line.endswith(b"\n"):
                file.truncate(whole)
                break
            self._apply(orjson.loads(line))
            whole += len(line)
