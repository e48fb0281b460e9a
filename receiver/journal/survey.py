"""Looking at a journal without touching it: beside a running receiver, or on a volume whose receiver is gone.

Takes no lock, writes nothing, and lives with segments that come and go meanwhile.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

from receiver.journal import checkpoint
from receiver.journal.damage import Damage
from receiver.journal.disk import Disk
from receiver.journal.folder import Folder
from receiver.journal.frame import SegmentId
from receiver.journal.reader import SegmentReader
from receiver.journal.walk import Walk

_LOOKS = 3  # a frame that is being written just now looks bad once, damage looks bad every time


@dataclass
class SegmentSurvey:
    """One file. `first`, `last` and `callbacks` are None where the file holds none, or was not read that far."""

    number: int
    size_bytes: int
    first: int | None = None
    last: int | None = None
    callbacks: int | None = None
    damages: list[Damage] = field(default_factory=list)
    tail: Literal["clean", "torn", "unread"] = "unread"  # torn: one bad frame at the end, which was never acknowledged


@dataclass
class Survey:
    """`read_whole`: every frame was verified; else the last segment alone, and of the others the first frame."""

    read_whole: bool
    published: int
    checkpoint: Literal["good", "none", "damaged"]
    segments: list[SegmentSurvey]
    set_aside: dict[str, int]  # file of damaged bytes -> its size

    @property
    def last(self) -> int:
        return max([self.published, *(segment.last or 0 for segment in self.segments)])

    @property
    def waiting(self) -> int:
        return self.last - self.published

    @property
    def damages(self) -> list[Damage]:
        return [damage for segment in self.segments for damage in segment.damages]

    @property
    def sound(self) -> bool:
        """A torn tail is sound: the next start cuts it off."""
        return not self.damages and self.checkpoint != "damaged"


def survey(path: Path, *, read_whole: bool, disk: Disk | None = None) -> Survey:
    """Raises OSError."""
    folder = Folder(disk or Disk(), path)
    has_mark = folder.exists(checkpoint.NAME)  # asked first: it may come into being just now
    mark = checkpoint.load(folder)
    segments = _segments(folder, read_whole=read_whole)
    floor = next((segment.first for segment in segments if segment.first), 1) - 1
    return Survey(
        read_whole=read_whole,
        published=max(mark.published if mark else 0, floor),
        checkpoint="good" if mark else "damaged" if has_mark else "none",
        segments=segments,
        set_aside=folder.set_aside(),
    )


def _segments(folder: Folder, *, read_whole: bool) -> list[SegmentSurvey]:
    """From the newest to the oldest, because only the newest that holds anything may end in a torn frame."""
    surveys: list[SegmentSurvey] = []
    newest_seen = torn_seen = False
    for identity in reversed(folder.segments()):
        try:
            if read_whole or not newest_seen:
                one = _look(folder, identity, may_be_torn=not (newest_seen or torn_seen))
            else:
                one = _glance(folder, identity)
        except FileNotFoundError:
            continue  # published, and removed since the list was made
        newest_seen = newest_seen or one.first is not None
        torn_seen = torn_seen or one.tail == "torn"
        surveys.append(one)
    surveys.reverse()
    _link(surveys)
    return surveys


def _look(folder: Folder, identity: SegmentId, *, may_be_torn: bool) -> SegmentSurvey:
    """Verify the whole file; once more if something looks bad."""
    for _ in range(_LOOKS):
        one = _walk(folder, identity, may_be_torn=may_be_torn)
        if not one.damages:
            break
    return one


def _walk(folder: Folder, identity: SegmentId, *, may_be_torn: bool) -> SegmentSurvey:
    path = folder.path_of(identity)
    end = folder.disk.size(path)
    one = SegmentSurvey(identity.number, end, callbacks=0, tail="clean")
    reader = SegmentReader(folder.disk, path, identity)
    try:
        walk = Walk(reader, lambda damage, _reader: one.damages.append(damage))
        while frame := walk.next(end):
            one.first = one.first or frame.header.sequence
            one.last = frame.header.last
            one.callbacks = (one.callbacks or 0) + frame.header.callbacks
        if may_be_torn and not walk.tail_is_blank(end) and walk.tail_is_torn(end):
            one.tail = "torn"
        else:
            walk.damaged_tail(end)
    finally:
        reader.close()
    return one


def _glance(folder: Folder, identity: SegmentId) -> SegmentSurvey:
    path = folder.path_of(identity)
    end = folder.disk.size(path)
    reader = SegmentReader(folder.disk, path, identity)
    try:
        frame = reader.next_frame(0, end)
    finally:
        reader.close()
    return SegmentSurvey(identity.number, end, first=frame.header.sequence if frame else None)


def _link(surveys: list[SegmentSurvey]) -> None:
    """A segment ends where the next one begins; what it lacks up to there is missing."""
    held = [one for one in surveys if one.first is not None]
    for one, following in pairwise(held):
        end = (following.first or 1) - 1
        if one.last is None:
            one.last = end
        elif one.last < end:
            one.damages.append(Damage(one.number, one.size_bytes, 0, end - one.last))
