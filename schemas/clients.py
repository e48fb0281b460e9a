"""aiokafka's clients, started and stopped within a limit; afterwards no connection of theirs is open, come what may.

Three ways in which aiokafka 0.14 leaves one open, and which this file closes:

- `start` that is cancelled, as every time limit does, forgets the connection that it was asking for metadata
  (aiokafka #715): nothing but a local variable of `bootstrap` knows it;
- `stop` that is cancelled closes nothing that comes after the wait it was in;
- a request that was on its way while the client closed connects again, and nobody looks at that connection any more.

For the first and the last there is no way round looking into aiokafka; this is the one file that does so.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import aiokafka.client
from aiokafka.errors import KafkaConnectionError, KafkaError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

BOUNDED_FETCH_WAIT_MS = 20
"""How long the broker may hold an answer back for want of records. Who reads to a known end never waits for new ones,
and the next question, also one about offsets, waits behind that answer: half a second each by default."""

_AWAY = (KafkaError, OSError, TimeoutError)
_connect = aiokafka.client.create_conn
_bootstrapping: ContextVar[list[Any] | None] = ContextVar("_bootstrapping", default=None)
_stopped: WeakSet[Any] = WeakSet()


@asynccontextmanager
async def started(client: Any, start_s: float, stop_s: float) -> AsyncIterator[None]:  # noqa: ANN401  # has no types
    """Start a producer, consumer or admin client within `start_s`; stop it at the end, within `stop_s`.

    Raises:
        KafkaError, OSError, TimeoutError: it could not start. That it could not stop in good order is not told.
    """
    try:
        await start(client, start_s)
        yield
    finally:
        await stop(client, stop_s)


async def start(client: Any, limit_s: float) -> None:  # noqa: ANN401
    """Start a client; `stop` has to follow in any case. Raises KafkaError, OSError, TimeoutError."""
    by_this: list[Any] = []
    before = _bootstrapping.set(by_this)
    try:
        async with asyncio.timeout(limit_s):
            await client.start()
    except BaseException:
        for connection in by_this:
            connection.close()
        raise
    finally:
        _bootstrapping.reset(before)


async def learn(consumer: Any, names: Iterable[str]) -> None:  # noqa: ANN401
    """Let a consumer know where these topics are before it is asked for offsets.

    By itself it asks for one topic after the other, and waits `retry_backoff_ms` before each next.
    """
    await consumer._client.set_topics(list(names))  # noqa: SLF001


async def stop(client: Any, limit_s: float) -> None:  # noqa: ANN401
    """Stop a client, whatever state it is in, within `limit_s`. Nothing is open afterwards, cancelled or not."""
    connector = getattr(client, "client", None) or client._client  # noqa: SLF001
    transports = list(_transports(connector))
    try:
        with suppress(*_AWAY):
            async with asyncio.timeout(limit_s):
                await (client.close() if hasattr(client, "close") else client.stop())
    finally:
        _stopped.add(connector)
        for transport in (*transports, *_transports(connector)):
            transport.abort()  # `close` alone waits until a dead broker has taken what was written
        _cut(client, connector)


def _cut(client: Any, connector: Any) -> None:  # noqa: ANN401
    """Close what a `stop` that was cut short has left. Does nothing after one that was not."""
    for connection in connector._conns.values():  # noqa: SLF001
        connection.close()
    tasks = [connector._sync_task]  # noqa: SLF001
    if hasattr(client, "_sender"):
        client._message_accumulator.fail_all(KafkaError("stopped"))  # noqa: SLF001
        tasks.append(client._sender.sender_task)  # noqa: SLF001
    for task in tasks:
        if task:
            task.cancel()


def _transports(connector: Any) -> Iterator[Any]:  # noqa: ANN401
    for connection in connector._conns.values():  # noqa: SLF001
        if connection.connected():
            yield connection._writer.transport  # noqa: SLF001


async def _watched_connect(*place: Any, on_close: Any = None, **options: Any) -> Any:  # noqa: ANN401
    """Connect as aiokafka does; note the bootstrapping connection, and let a stopped client have none."""
    connection = await _connect(*place, on_close=on_close, **options)
    if on_close is None:  # only `bootstrap` gives none; the others know their client by it
        by_this = _bootstrapping.get()
        if by_this is not None:
            by_this.append(connection)
    elif on_close.__self__ in _stopped:
        connection.close()
        raise KafkaConnectionError("the client is stopped")
    return connection


aiokafka.client.create_conn = _watched_connect
