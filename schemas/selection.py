"""What of the topic a subscriber is given: which merchants, which of Blu's fields, and each result once."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from . import wire

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from .event import DialResult

log = logging.getLogger(__name__)


class Record(Protocol):
    """What is read of a Kafka record."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...


@dataclass
class Counts:
    """What became of the records so far. All but `handed_out` were left out, and their offsets committed."""

    handed_out: int = 0
    repeats: int = 0
    other_merchants: int = 0
    invalid: int = 0


class Recent:
    """The ids of the last `limit` results that were worked on: an older repeat is not recognised."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._order: deque[str] = deque()
        self._known: set[str] = set()

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._known

    def add(self, event_ids: Iterable[str]) -> None:
        """Remember these, and forget as many of the oldest as there are too many."""
        fresh = [event_id for event_id in event_ids if event_id not in self._known]
        self._known.update(fresh)
        self._order.extend(fresh)
        while len(self._order) > self._limit:
            self._known.discard(self._order.popleft())


class Selection:
    """Reads records and leaves out what is not wanted; `fields` None: Blu's records whole."""

    def __init__(self, merchants: Collection[str] | None, fields: Collection[str] | None, remembered: int) -> None:
        self.counts = Counts()
        self.recent = Recent(remembered)
        self._merchants = None if merchants is None else {name.encode() for name in merchants}
        self._narrow = None if fields is None else Narrow(fields)

    def events(self, records: Iterable[Record]) -> list[DialResult]:
        """Read records, in their order. A repeat within them, or of one in `recent`, is left out."""
        wanted = self._wanted(records) if self._merchants is not None else records
        events: dict[str, DialResult] = {}
        for record in wanted:
            event = self._read(record)
            if event is None:
                continue
            if event.event_id in events or event.event_id in self.recent:
                self.counts.repeats += 1
            else:
                events[event.event_id] = event
        self.counts.handed_out += len(events)
        return [*map(self._narrow, events.values())] if self._narrow else [*events.values()]

    def _wanted(self, records: Iterable[Record]) -> Iterable[Record]:
        """Look at the keys alone: a record of another merchant is not even decoded."""
        for record in records:
            if record.key is not None and record.key.partition(b":")[0] in (self._merchants or ()):
                yield record
            else:
                self.counts.other_merchants += 1

    def _read(self, record: Record) -> DialResult | None:
        try:
            return wire.decode(record.value)
        except wire.InvalidRecord as error:
            self.counts.invalid += 1
            log.warning("left out partition %d offset %d: %s", record.partition, record.offset, error.reason)
            return None


class Narrow:
    """Cuts an event's `result` down to some of Blu's fields; the callback's `envelope` goes altogether."""

    def __init__(self, fields: Collection[str]) -> None:
        names = dict.fromkeys(fields)
        slots: list[Any] = [(f"f{n}", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for n in range(len(names))]
        kept = msgspec.defstruct("Kept", slots, rename={f"f{n}": name for n, name in enumerate(names)})
        self._decoder = msgspec.json.Decoder(kept)
        self._encoder = msgspec.json.Encoder()

    def __call__(self, event: DialResult) -> DialResult:
        kept = self._encoder.encode(self._decoder.decode(event.result))
        return msgspec.structs.replace(event, result=msgspec.Raw(kept), envelope=msgspec.UNSET)
