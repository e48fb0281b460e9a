"""aiokafka's produce request, put together at once: aiokafka 0.14 copies each batch five times more, level by level."""

from __future__ import annotations

from aiokafka.protocol.produce import ProduceRequest_v7
from aiokafka.protocol.types import Int16, Int32, String

_text = String("utf-8")


def encode(request: ProduceRequest_v7) -> bytes:
    """Return the bytes that `Struct.encode` makes of the request."""
    said = request.__dict__
    parts = [
        _text.encode(said["transactional_id"]),
        Int16.encode(said["required_acks"]),
        Int32.encode(said["timeout"]),
        Int32.encode(len(said["topics"])),
    ]
    for topic, partitions in said["topics"]:
        parts += (_text.encode(topic), Int32.encode(len(partitions)))
        for partition, records in partitions:
            parts += (Int32.encode(partition), Int32.encode(len(records)), records)
    return b"".join(parts)


def copy_once() -> None:
    """Have every producer of this process encode so. Brokers since 2.1 are sent version 7; older ones, as before."""
    ProduceRequest_v7.encode = encode
