"""Publishing results by hand, where no receiver's journal stands behind them: what reconcile and quarantine share."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from ops.ending import NotNow, connected
from schemas.topics import DIAL_RESULTS, MAX_RECORD_BYTES, partition_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Mapping, Sequence

    from schemas.wire import KafkaRecord

_REQUEST_MS = 15_000


class Results:
    """A connected producer of `dial-results`."""

    def __init__(self, producer: Any, partitions: int) -> None:  # noqa: ANN401  # aiokafka ships no types
        self._producer = producer
        self._partitions = partitions

    async def send(self, records: Sequence[KafkaRecord]) -> set[int]:
        """Return when all replicas have them, order kept within a key; return the places of those too large for Kafka.

        Raises:
            KafkaError: one at least is not acknowledged; it may have been written all the same.
        """
        answers = [await self._begin(record) for record in records]
        await self._producer.flush()
        errors = {place: answer.exception() for place, answer in enumerate(answers) if answer}
        too_large = {place for place, error in errors.items() if isinstance(error, MessageSizeTooLargeError)}
        for place, error in errors.items():
            if error and place not in too_large:
                raise error
        return too_large | {place for place, answer in enumerate(answers) if answer is None}

    async def _begin(self, record: KafkaRecord) -> asyncio.Future[Any] | None:
        """Hand it to the producer; None where even that finds it too large."""
        try:
            answer: asyncio.Future[Any] = await self._producer.send(
                DIAL_RESULTS,
                record.value,
                record.key,
                partition_of(record.key, self._partitions),
                record.timestamp_ms,
                record.headers,
            )
        except MessageSizeTooLargeError:
            return None
        return answer


@asynccontextmanager
async def results_topic(options: Mapping[str, Any]) -> AsyncIterator[Results]:
    """Connect.

    Raises:
        NotNow: no broker answers, or the topic is missing; it is never asked for by name, which might create it.
    """
    producer = AIOKafkaProducer(
        **options,
        acks="all",
        enable_idempotence=False,  # as the receiver's: whatever is written twice collapses by event id
        linger_ms=5,
        max_request_size=2 * MAX_RECORD_BYTES,
        request_timeout_ms=_REQUEST_MS,
    )
    async with connected(producer):
        if not await producer.client.force_metadata_update():
            raise KafkaError
        partitions = len(producer.client.cluster.partitions_for_topic(DIAL_RESULTS) or ())
        if not partitions:
            raise NotNow(f"the topic {DIAL_RESULTS} is missing: `dial-results topics apply` makes it")
        yield Results(producer, partitions)
