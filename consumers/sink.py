"""The seam between the delivery loop and every destination: read this before you write a sink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from schemas.event import DialResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Delivery(msgspec.Struct, frozen=True, gc=False):  # a quarter of a dataclass's time to make
    """One event and the place in Kafka where it was found.

    The same event may come from several places: Blu's retry, a re-sent journal, a replay.
    """

    event: DialResult
    topic: str
    partition: int
    offset: int
    replay_id: str | None = None
    """The replay job that asked for this delivery; None for a live one."""
    original: tuple[int, int] | None = None
    """On a replayed delivery: partition and offset of the live record that it copies. That one is done: a replayed one
    whose live record is still to come is left to it, and never handed to a sink."""
    resent: bool = False
    """A live one that an operator sent again out of a receiver's journal: mostly a repeat, however long ago."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How much the runner may hand to one `write`, and how long it may gather for it.

    The runner holds at most three such batches (one being committed, one written, one gathered) and what the Kafka
    client fetched.
    """

    max_events: int = 2_000
    max_bytes: int = 8_000_000
    """Of the records' values, as they stand in Kafka."""
    linger_s: float = 0.0
    """0: write what is there. Above: wait up to this long for a fuller batch, for destinations that pay by the call."""


class SinkUnavailable(Exception):  # noqa: N818 - says what is the case; nothing is wrong with the events
    """The destination cannot take anything now; the events are fine.

    Args:
        reason: what is the case, for logs: no personal data, no secrets.
        retry_after_s: how long the destination asked to be left alone, None if it did not say.
    """

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class EventsRejected(Exception):  # noqa: N818 - an outcome of a write, not a failure of it
    """Exactly these events can never succeed, and all others of the batch are durable.

    Args:
        reasons: event id to a short typed reason, such as `sqlstate-22021`: no personal data, no free text.
    """

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__(f"{len(reasons)} events rejected")
        self.reasons = dict(reasons)


class Sink(Protocol):
    """A destination that takes every event exactly once in effect.

    What the runner may rely on, and what `tests/contract` holds every sink to:

    - `write` returns only when every event of the batch is durable at the destination. Returning is the permission to
      commit the offsets: after it nobody will send these events again.
    - `write` may be called again with the same events, in whole or in part, alone or together with others, after any
      error, cancellation or restart, and an event may stand in one batch more than once. `event.event_id` makes that
      harmless: an event that already has its effect is passed over silently.
    - The runner never calls `write` concurrently on one instance. Another process, or a frozen predecessor that wakes
      up, may write the same events to the same destination at the same time.
    - Deliveries of one partition come in the order of their offsets. A batch may hold several partitions.
    - `write` may be cancelled at any await. It must leave nothing behind that makes the next call fail.

    What the sink may raise:

    - `SinkUnavailable`: the events are fine, the destination is not. Some of the batch may already be durable. The
      runner waits (the seconds asked for, else a backoff with jitter; heartbeats go on) and calls again with the same
      events, for ever.
    - `EventsRejected`: exactly the named events can never succeed, all the others are durable. The runner writes the
      named ones to the dead-letter topic, with their original bytes, and goes on.
    - `InvalidRecord`, which `event.record()` raises for numbers beyond what any reader can hold: not to be caught. The
      runner dead-letters the records for which it does, and calls again with the others.
    - Anything else is a bug. The runner commits nothing, says so and ends the process.

    An instance comes from the module's `connect(settings, merchants)`, an async context manager, which raises
    `SinkUnavailable` while the destination is away and is then called again. It must give up by itself when the
    destination does not answer: every wait inside a sink has a limit.
    """

    async def write(self, deliveries: Sequence[Delivery]) -> None:
        """Make every event durable at the destination.

        Raises:
            SinkUnavailable: the destination is away; call again with the same events.
            EventsRejected: the named events can never succeed, the others are durable.
        """

    async def erase(self, merchant: str, record_id: str) -> str:
        """Erase every event of one contact at the destination, durably, with all that was derived from it.

        The runner calls it like `write` and never beside it, and gives the sink nothing of that contact from then on.
        It may be called again, and for a contact that the destination never had: both are harmless. It also has to
        undo what a cancelled `write`, or a frozen predecessor's, brings in late.

        Returns:
            "" where nothing of the contact is left there; else what is left, in a sentence without personal data: it
            goes into the receipt.

        Raises:
            SinkUnavailable: the destination is away; call again.
        """
