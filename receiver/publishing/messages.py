"""What the receiver and its publishing process tell each other: one JSON object a line, over a pair of sockets."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from receiver.counts import PublishCounts  # msgspec reads the annotations
from schemas.kafka_client import KafkaClient

if TYPE_CHECKING:
    from asyncio import StreamWriter

LINE_BYTES = 1024 * 1024  # a line has a few hundred bytes, and one count more for each merchant


class Ask(msgspec.Struct, tag=True):
    """Publisher: say when there is something durable behind this sequence."""

    after: int


class Did(msgspec.Struct, tag=True):
    """Publisher: the broker has everything up to this sequence; `counts` since the last time."""

    published: int
    counts: PublishCounts


class Held(msgspec.Struct, array_like=True):
    """A segment, as far as it is durable. `first` and `last` are sequences."""

    number: int
    seed: int
    size_bytes: int
    end: int
    first: int
    last: int


class There(msgspec.Struct):
    """Receiver: this is durable behind what was asked for: the next few segments."""

    segments: list[Held]


def _counted(_kind: type, value: Any) -> Counter[str]:  # noqa: ANN401  # msgspec reads a Counter as it reads any class
    return Counter(value)


_encode = msgspec.json.encode
said_by_publisher = msgspec.json.Decoder(Ask | Did, dec_hook=_counted).decode
said_by_receiver = msgspec.json.Decoder(There).decode
said_first = msgspec.json.Decoder(KafkaClient).decode
"""The receiver's first word: where Kafka is."""


def tell(writer: StreamWriter, message: msgspec.Struct) -> None:
    """Send it. There is never more than one of each kind on its way, so nothing piles up."""
    writer.write(_encode(message) + b"\n")
