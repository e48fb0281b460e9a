"""What a journal still holds of what is published, read beside a running receiver: without a lock, writing nothing."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from receiver.journal.disk import Disk
from receiver.journal.folder import Folder
from receiver.journal.frame import JournaledCallback, SegmentId, unpack
from receiver.journal.reader import SegmentReader
from receiver.journal.survey import survey
from receiver.journal.walk import Walk

if TYPE_CHECKING:
    from receiver.journal.damage import Damage


@dataclass(frozen=True, slots=True)
class Choice:
    """Which callbacks: received from `since_ms` on and before `until_ms` (since 1970), of this merchant or of all."""

    since_ms: int
    until_ms: int
    merchant: str | None = None

    def takes(self, callback: JournaledCallback) -> bool:
        return self.since_ms <= callback.received_ms < self.until_ms and self.merchant in (None, callback.merchant)


class Retained:
    """Iterating gives the chosen callbacks, in order, as often as it is done; each time there may be fewer of them.

    Only what the checkpoint said was published when this was made: the rest is the receiver's to send. Segments that go
    meanwhile are passed over, and so are damaged bytes, which `damages` tells. Raises OSError.
    """

    def __init__(self, path: Path, choice: Choice, disk: Disk | None = None) -> None:
        self._folder = Folder(disk or Disk(), path)
        self._choice = choice
        found = survey(path, read_whole=False, disk=disk)
        self.published = found.published
        self.waiting = found.waiting
        self.damages: list[Damage] = []

    def __iter__(self) -> Iterator[JournaledCallback]:
        self.damages.clear()
        for identity in self._folder.segments():
            for callback in self._callbacks(identity):
                if callback.sequence > self.published:
                    return
                if self._choice.takes(callback):
                    yield callback

    def _callbacks(self, identity: SegmentId) -> Iterator[JournaledCallback]:
        path = self._folder.path_of(identity)
        try:
            end = self._folder.disk.size(path)
            reader = SegmentReader(self._folder.disk, path, identity)
        except FileNotFoundError:
            return  # its insurance is over, since the list was made
        with closing(reader):
            walk = Walk(reader, lambda damage, _reader: self.damages.append(damage))
            while frame := walk.next(end):
                yield from unpack(frame.header, frame.payload)


def take(callbacks: Iterator[JournaledCallback], max_callbacks: int, max_bytes: int) -> list[JournaledCallback]:
    """Return the next ones: at most so many, and no further one once they have so many bytes."""
    taken: list[JournaledCallback] = []
    size_bytes = 0
    for callback in islice(callbacks, max_callbacks):
        taken.append(callback)
        size_bytes += len(callback.body)
        if size_bytes >= max_bytes:
            break
    return taken
