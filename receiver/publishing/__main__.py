"""The publishing process: `python -m receiver.publishing FD FOLDER SEQUENCE LOG_LEVEL`, started by the receiver alone.

It ends when the receiver is gone, and for no other reason: signals that stop a whole group are the receiver's to obey.
Exit codes: 0 the receiver is gone, 1 a bug or an unreadable file.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from pathlib import Path

import uvloop

from receiver.counts import PublishCounts
from receiver.heap import one_heap
from receiver.publisher import Publisher
from receiver.publishing.followed import FollowedJournal
from receiver.publishing.messages import LINE_BYTES, said_first
from schemas.logs import configure_logging
from schemas.quiet import quieten, report_stray, report_uncaught

# Where one busy core is all there is, acknowledging gets the greater part of it: what waits is safe in the journal.
# After 3 s of requests that fill the core, of which a bare handler takes 24,400/s: with 0 we take 26,000/s and none
# still waits 2 s later; with 1 it is 27,000 to 38,000/s, and tens of
# thousands wait after rounds of over 30,000/s (docs/receiver.md).
NICER = 1


def main() -> int:
    """Publish until the receiver is gone."""
    fd, folder, published, level = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICER)
    one_heap()
    configure_logging("publisher", level)
    quieten()
    sys.excepthook = report_uncaught
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)  # a window's records are freed by their references alone
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(socket.socket(fileno=fd), folder, published))
    return 0


async def _run(receiver: socket.socket, folder: Path, published: int) -> None:
    asyncio.get_running_loop().set_exception_handler(report_stray)
    counts = PublishCounts()
    reader, writer = await asyncio.open_connection(sock=receiver, limit=LINE_BYTES)
    options = said_first(await reader.readline()).options()
    journal = FollowedJournal(folder, published, counts, writer)
    following = asyncio.create_task(journal.follow(reader))
    publishing = asyncio.create_task(Publisher(journal, options, counts).run())
    try:
        await asyncio.wait((following, publishing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        following.cancel()
        publishing.cancel()
        await asyncio.wait((following, publishing))
        writer.close()
    if not publishing.cancelled():
        publishing.result()


if __name__ == "__main__":
    sys.exit(main())
