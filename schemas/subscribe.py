"""What a downstream team uses: `async with subscribe("my-team") as results: async for batch in results: ...`."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError

from . import clients, topics
from .results import Results
from .selection import Selection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence
    from datetime import datetime

    from .results import Offsets
    from .selection import Record

REQUEST_S = 10.0
"""Time for one request: to connect, to see the topics, to find where to begin."""

COMMIT_S = 60.0
"""Time for a commit: Kafka may be away for a moment."""

LET_GO_S = 30.0
"""How long a rebalance waits for the body that runs. Past that its batch goes to the next member as well."""

MAX_BODY_S = 300.0
"""aiokafka leaves the group when nobody asked for a batch for so long."""

_STOP_S = 5.0
_POLL_MS = 500


class TopicMissing(LookupError):  # noqa: N818  # the name of the thing
    """The topic is not there, or this login has no right to see it; nothing is made by reading."""


@asynccontextmanager
async def subscribe(
    group: str,
    *,
    servers: str = "127.0.0.1:9092",
    login: Mapping[str, Any] | None = None,
    topic: str = topics.DIAL_RESULTS,
    since: datetime | None = None,
    merchants: Collection[str] | None = None,
    fields: Collection[str] | None = None,
    max_batch: int = 1_000,
    remembered: int = 100_000,
) -> AsyncIterator[Results]:
    """Join the group, and give its share of the results until the block ends; then leave it, within 5 s.

    Args:
        group: yours alone; members of one group share the partitions.
        servers: host:port of one or more brokers, separated by commas.
        login: aiokafka's own options for TLS and SASL: `security_protocol`, `ssl_context`, `sasl_mechanism`, ...
        topic: `dial-results`, or the topic that a replay of yours is copied to.
        since: aware; where a partition begins for which the group has committed nothing yet. Every result that was
            received at this time or later comes, and now and then one that is older. None: everything that is kept.
        merchants: only theirs; None: all.
        fields: of Blu's fields only these; None: the record whole.
        max_batch: most results of one batch.
        remembered: a repeat is left out if its first copy is among so many of the last results of this process.

    Raises:
        ValueError: `since` is naive, or the group is one of the pipeline's own.
        TopicMissing: there is no such topic for this login.
        KafkaError, TimeoutError: Kafka cannot be reached within 10 s.
    """
    check(group, since)
    async with _connected(group, servers, login or {}, max_batch) as consumer:
        source = KafkaSource(consumer, since)
        if topic not in await _in_time(consumer.topics()):
            raise TopicMissing(f"no topic {topic!r} at {servers}, or no right (Describe) to see it")
        consumer.subscribe([topic], listener=source)
        yield Results(source, Selection(merchants, fields, remembered))


def check(group: str, since: datetime | None) -> None:
    """Raise ValueError if `since` is naive, or the group is none, or one of the pipeline's own."""
    if since is not None and since.tzinfo is None:
        raise ValueError("since needs a time zone: datetime.now(UTC) - timedelta(days=1)")
    if not group or group.startswith(topics.group("")):
        raise ValueError(f"a group of your own, please: {group!r} is none")


@asynccontextmanager
async def _connected(
    group: str, servers: str, login: Mapping[str, Any], max_batch: int
) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers,
        **login,
        group_id=group,
        client_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=max_batch,
        max_poll_interval_ms=int(MAX_BODY_S * 1_000),
        session_timeout_ms=45_000,
        heartbeat_interval_ms=3_000,
        rebalance_timeout_ms=60_000,  # more than a heartbeat and LET_GO_S together
        request_timeout_ms=int(REQUEST_S * 1_000),
        fetch_max_bytes=8_000_000,
        max_partition_fetch_bytes=1_000_000,  # one larger record (2 MB at most) is still fetched, alone
    )
    try:
        await _in_time(clients.start(consumer, REQUEST_S))
        yield consumer
    finally:
        await clients.stop(consumer, _STOP_S)  # where Kafka is away, the group notices by itself


async def _in_time(request: Any) -> Any:  # noqa: ANN401  # aiokafka is untyped
    try:
        async with asyncio.timeout(REQUEST_S):
            return await request
    except TimeoutError:
        raise TimeoutError(f"Kafka did not answer within {REQUEST_S:g} s") from None


class KafkaSource(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka's base class is untyped
    """One member of the group. A rebalance waits for the body that runs; nothing new is handed out meanwhile."""

    def __init__(self, consumer: AIOKafkaConsumer, since: datetime | None) -> None:
        self._consumer = consumer
        self._since_ms = None if since is None else int(since.timestamp() * 1_000)
        self._placed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._failure: Exception | None = None

    async def fetch(self) -> Mapping[TopicPartition, Sequence[Record]]:
        """Give what is there. Between a revocation and the next start records may come: those come again after it."""
        fetched: Mapping[TopicPartition, Sequence[Record]] = await self._consumer.getmany(timeout_ms=_POLL_MS)
        if self._failure:
            raise self._failure
        if not fetched or not self._placed:
            return {}
        self._idle.clear()
        return fetched

    async def commit(self, offsets: Offsets) -> None:
        """Commit what is still ours; the rest is delivered again, to whom it belongs now."""
        try:
            ours = {place: offset for place, offset in offsets.items() if place in self._consumer.assignment()}
            async with asyncio.timeout(COMMIT_S):
                if ours:
                    await self._consumer.commit(ours)
        except (CommitFailedError, IllegalStateError):
            return
        finally:
            self._idle.set()

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # noqa: ARG002  # aiokafka's signature
        """Hand out nothing more, and let the body that runs finish and commit."""
        self._placed = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LET_GO_S):
                await self._idle.wait()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Begin each partition where the group left it. What goes wrong is raised by the next `fetch`."""
        try:
            for place, offset in (await _in_time(self._starts(assigned))).items():
                self._consumer.seek(place, offset)
            self._placed = True
        except Exception as error:  # noqa: BLE001  # aiokafka would log it and go on from elsewhere
            self._failure = error

    async def _starts(self, assigned: set[TopicPartition]) -> Offsets:
        committed = {place: await self._consumer.committed(place) for place in assigned}
        known = {place: offset for place, offset in committed.items() if offset is not None}
        new = [place for place in assigned if place not in known]
        return known | (await self._first(new) if new else {})

    async def _first(self, new: list[TopicPartition]) -> Offsets:
        if self._since_ms is None:
            return dict(await self._consumer.beginning_offsets(new))
        ends = await self._consumer.end_offsets(new)  # asked first: what comes between the two is not skipped
        found = await self._consumer.offsets_for_times(dict.fromkeys(new, self._since_ms))
        first = {place: found[place].offset if found.get(place) else ends[place] for place in new}
        # Else a later `since` would skip what comes while nobody runs to a partition on which nothing was committed.
        with contextlib.suppress(CommitFailedError, IllegalStateError):
            await self._consumer.commit(first)
        return first
