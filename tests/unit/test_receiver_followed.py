from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from receiver.counts import PublishCounts
from receiver.journal import Journal, JournalLimits
from receiver.publisher import WINDOW_CALLBACKS
from receiver.publishing.followed import FollowedJournal
from receiver.publishing.messages import Ask
from receiver.publishing.process import PublishingProcess
from schemas.kafka_client import KafkaClient

LIMITS = JournalLimits(quota_bytes=1 << 30, segment_bytes=1 << 20)


class Receiver(PublishingProcess):
    """The receiver's side, without a process: what it is asked is noted."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal, PublishCounts(), "info", KafkaClient(bootstrap_servers="127.0.0.1:1"))
        self.asked: list[int] = []

    async def _answer(self, asked: Ask, writer: asyncio.StreamWriter) -> None:
        self.asked.append(asked.after)
        await super()._answer(asked, writer)


async def test_a_backlog_is_read_without_asking_for_each_window(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, LIMITS)
    receiver = Receiver(journal)
    ours, theirs = socket.socketpair()
    (from_publisher, to_publisher), (from_receiver, to_receiver) = [
        await asyncio.open_connection(sock=one) for one in (ours, theirs)
    ]
    followed = FollowedJournal(tmp_path, 0, PublishCounts(), to_receiver)
    tasks = [
        asyncio.create_task(receiver._serve(from_publisher, to_publisher)),
        asyncio.create_task(followed.follow(from_receiver)),
    ]
    backlog = 2 * WINDOW_CALLBACKS + 250
    await asyncio.gather(*(journal.append("demo", b"%d" % number, 7) for number in range(backlog)))
    read: list[bytes] = []
    async with asyncio.timeout(60):
        while len(read) < backlog:
            await followed.wait(len(read))
            read += [callback.body for callback in followed.read(len(read), WINDOW_CALLBACKS, 1 << 20)]
        assert receiver.asked == [0, 2 * WINDOW_CALLBACKS]
        waiting = asyncio.create_task(followed.wait(backlog))
        await journal.append("demo", b"one more", 7)
        await waiting
    read += [callback.body for callback in followed.read(backlog, WINDOW_CALLBACKS, 1 << 20)]
    assert read == [*(b"%d" % number for number in range(backlog)), b"one more"]
    to_receiver.close()
    await asyncio.gather(*tasks)
    to_publisher.close()
    await journal.close()
