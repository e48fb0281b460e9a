"""Where in Kafka a result came to lie, and whether the consumers are past it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from schemas.clients import started
from schemas.topics import DIAL_RESULTS, group

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_LOOK_EVERY_S = 0.02
_POLL_MS = 200
_START_S = 40.0  # who waits here has a limit of their own
_STOP_S = 1.0


class Place(NamedTuple):
    """A record's place in `dial-results`."""

    partition: int
    offset: int


class Trail:
    """Follows one partition from its end at the time of entering. Kafka's errors go to the caller."""

    def __init__(self, bootstrap_servers: str, partition: int) -> None:
        self._partition = TopicPartition(DIAL_RESULTS, partition)
        self._reader = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, fetch_max_wait_ms=50)
        self._admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
        self._clients = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as clients:
            for client in (self._reader, self._admin):
                await clients.enter_async_context(started(client, _START_S, _STOP_S))
            self._reader.assign([self._partition])
            await self._reader.seek_to_end(self._partition)
            await self._reader.position(self._partition)  # the seek is lazy: have it done now
            self._clients = clients.pop_all()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._clients.aclose()

    async def found(self, event_id: str) -> Place:
        """Return where the next record of this event is; waits until there is one."""
        wanted = ("ce_id", event_id.encode())
        while True:
            for records in (await self._reader.getmany(timeout_ms=_POLL_MS)).values():
                for record in records:
                    if wanted in record.headers:
                        return Place(record.partition, record.offset)

    async def passed(self, consumer: str, place: Place) -> None:
        """Return when the consumer has committed past this place."""
        while True:
            offsets = await self._admin.list_consumer_group_offsets(group(consumer), partitions=[self._partition])
            committed = offsets.get(self._partition)
            if committed is not None and committed.offset > place.offset:
                return
            await asyncio.sleep(_LOOK_EVERY_S)
