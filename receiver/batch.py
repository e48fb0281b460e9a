"""What goes to the broker in one round: for each partition one batch, of the records that are first for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from receiver.outgoing import Outgoing


class Batch:
    """Records of one partition, and the client's builder that holds their bytes."""

    __slots__ = ("builder", "outgoing")

    def __init__(self, builder: Any) -> None:  # noqa: ANN401  # aiokafka ships no types
        self.builder = builder
        self.outgoing: list[Outgoing] = []

    def add(self, outgoing: Outgoing) -> bool:
        """Return whether there was room; there always is for the first one, and none beside one that goes alone."""
        if self.outgoing and (outgoing.alone or self.outgoing[0].alone):
            return False
        key, value, headers, timestamp_ms = outgoing.record
        if self.builder.append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None:
            return False
        self.outgoing.append(outgoing)
        return True

    def acknowledged(self) -> None:
        """Note that all replicas have it."""
        for outgoing in self.outgoing:
            outgoing.done = True


def first_batches(
    waiting: Iterable[Outgoing], partitions: Mapping[str, int], new_builder: Callable[[], Any]
) -> dict[tuple[str, int], Batch]:
    """Return a batch for each topic and partition: a beginning of what waits for it, in its order.

    `partitions` says how many each topic has.
    """
    batches: dict[tuple[str, int], Batch] = {}
    full: set[tuple[str, int]] = set()
    for outgoing in waiting:
        place = outgoing.place(partitions)
        if place in full:
            continue
        batch = batches.get(place)
        if batch is None:
            batch = batches[place] = Batch(new_builder())
        if not batch.add(outgoing):
            full.add(place)
    return batches
