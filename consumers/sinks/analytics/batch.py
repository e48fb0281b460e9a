"""A batch by columns, so that most questions about it are asked of all its deliveries at once."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Self

import numpy as np

from schemas.event import RECONCILE

from .memory import packed
from .rows import microseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumers.sink import Delivery

    from .memory import Ids, Mask, Numbers

Place = tuple[str, int]
"""Topic and partition."""

_PLACE = attrgetter("topic", "partition")
_OFFSET = attrgetter("offset")
_EVENT_ID = attrgetter("event.event_id")
_PARTITION = attrgetter("partition")


@dataclass(frozen=True)
class Batch:
    """Deliveries in their order, and of each the same place in every column."""

    deliveries: Sequence[Delivery]
    event_ids: Sequence[str]
    ids: Ids
    received_at: Numbers
    """Microseconds since 1970."""
    partitions: Numbers
    plain: Mask
    """Whether it comes straight from a callback: neither replayed, re-sent nor reconciled."""

    @classmethod
    def of(cls, deliveries: Sequence[Delivery]) -> Self:
        """Take the columns out of deliveries."""
        event_ids = list(map(_EVENT_ID, deliveries))
        return cls(
            deliveries,
            event_ids,
            packed(event_ids),
            np.array([microseconds(one.event.received_at) for one in deliveries], np.int64),
            np.array(list(map(_PARTITION, deliveries)), np.int64),
            np.array([_is_plain(one) for one in deliveries], np.bool_),
        )

    def __len__(self) -> int:
        return len(self.deliveries)

    def where(self, mask: Mask) -> Batch:
        """Return those of which the mask is true."""
        if mask.all():
            return self
        chosen = np.flatnonzero(mask)
        places = chosen.tolist()
        return Batch(
            [self.deliveries[place] for place in places],
            [self.event_ids[place] for place in places],
            self.ids[chosen],
            self.received_at[chosen],
            self.partitions[chosen],
            self.plain[chosen],
        )

    def firsts(self) -> Mask:
        """Tell of each whether it is the first with its id."""
        first = dict(zip(reversed(self.event_ids), range(len(self) - 1, -1, -1), strict=True))
        mask = np.zeros(len(self), np.bool_)
        mask[list(first.values())] = True
        return mask

    def from_offsets(self, first: dict[Place, int]) -> Mask:
        """Tell of each whether it stands at its place's offset here, or behind it."""
        limits = np.array([first[place] for place in map(_PLACE, self.deliveries)], np.int64)
        return np.array(list(map(_OFFSET, self.deliveries)), np.int64) >= limits

    def last_offsets(self) -> dict[Place, int]:
        """Return the offset of the last delivery of every place: they come in order."""
        return dict(zip(map(_PLACE, self.deliveries), map(_OFFSET, self.deliveries), strict=True))


def _is_plain(one: Delivery) -> bool:
    return one.replay_id is None and not one.resent and one.event.source != RECONCILE
