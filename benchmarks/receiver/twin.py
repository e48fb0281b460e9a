"""Yardstick (f): our receiver with its journal's files replaced by SQLite, for comparison only.

The same server, fast lane, waiting room and writer thread; a commit group is one row instead of one frame of a segment.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from receiver.access_log import AccessLog
from receiver.body import BodyLimits
from receiver.callbacks import Callbacks
from receiver.counts import Counts
from receiver.journal import JournalLimits
from receiver.journal.frame import Entry, pack
from receiver.journal.reception import Reception
from receiver.journal.waiting import Done
from receiver.journal.writer import Writer
from receiver.retry_window import RetryWindow
from receiver.server import Server
from receiver.tokens import Tokens

LIMITS = JournalLimits()


class SqliteStore:
    """One row per commit group: its callbacks in the journal's own framing. One connection, the writer's."""

    wants_segment = False

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("CREATE TABLE IF NOT EXISTS callbacks (first INTEGER PRIMARY KEY, frame BLOB)")
        self._last = 0

    def commit(self, entries: Sequence[Entry]) -> int:
        first = self._last + 1
        self._connection.execute("INSERT INTO callbacks VALUES (?, ?)", (first, pack(entries)))
        self._last += len(entries)
        return first

    def roll_aged(self) -> None:
        """There is nothing to roll."""

    def close(self) -> None:
        self._connection.close()


class SqliteJournal:
    """As much of a journal as acknowledging needs."""

    def __init__(self, path: Path) -> None:
        self._reception = Reception(LIMITS.commit_budget_s, LIMITS.waiting_bytes)
        self._store = SqliteStore(path)
        self._writer = Writer(self._store, LIMITS.group_bytes, self._reception, lambda: None, self._reception.soon)
        self._writer.start()

    def append_nowait(self, merchant: str, body: bytes, received_ms: int, done: Done) -> None:
        self._writer.put(self._reception.enter(Entry(received_ms, merchant.encode(), body), done))

    def close(self) -> None:
        if self._writer.stop(5):
            self._store.close()
        self._reception.close()


async def serve(port: int, merchants: Path, database: Path) -> None:
    """Take callbacks on the fast lane until SIGTERM; the ordinary lane would fail here, and nothing takes it."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    journal = SqliteJournal(database)
    callbacks = Callbacks(
        Tokens(merchants),
        journal,
        Counts(),
        RetryWindow(time.monotonic),
        AccessLog("refused", time.monotonic),
        BodyLimits(1_000_000, 5.0),
        2_000,
    )
    server = Server(
        callbacks.receive_callback,
        on_error=callbacks.on_error,
        keepalive_s=75.0,
        strangers_cap=2_000,
        fast=callbacks,
    )
    await server.listen("127.0.0.1", port)
    gc.freeze()  # as the receiver does
    gc.set_threshold(100_000, 10, 10)
    await stop.wait()
    await server.stop()
    journal.close()


def main() -> None:
    served = serve(int(os.environ["PORT"]), Path(os.environ["MERCHANTS_FILE"]), Path(os.environ["DATABASE"]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(served)


if __name__ == "__main__":
    main()
