"""Bytes that should be frames and are not: set aside, counted, reported once."""

from typing import NamedTuple, Protocol

import structlog

from receiver.journal.disk import NO_ROOM
from receiver.journal.folder import DAMAGED, Folder
from receiver.journal.reader import SegmentReader

log = structlog.get_logger()


class Damage(NamedTuple):
    """A place where good frames should be."""

    segment: int
    offset: int
    size_bytes: int  # 0 where the bytes themselves are gone, and only the sequence tells
    missing: int  # callbacks that were here, as far as the sequences of their neighbours tell

    @property
    def name(self) -> str:
        return f"{self.segment:012d}-{self.offset:010d}{DAMAGED}"


class DamageReport(Protocol):
    """What a walk over a segment calls for each damage that it meets."""

    def __call__(self, damage: Damage, reader: SegmentReader) -> None: ...


class DamageFile:
    """Keeps damaged bytes in files of their own, for a human to look at. Such a file also says: reported before."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._seen: set[str] = set()
        self.size_bytes = 0  # found by this process
        self.missing = 0

    def __call__(self, damage: Damage, reader: SegmentReader) -> None:
        """Raises OSError, but not for a full disk: then the damage is only reported."""
        if damage.name in self._seen or self._folder.exists(damage.name):
            return
        self._seen.add(damage.name)
        self.size_bytes += damage.size_bytes
        self.missing += damage.missing
        kept = self._keep(damage, reader)
        log.error("journal_damaged", kept=kept, **damage._asdict())

    def kept(self, damage: Damage) -> bool:
        return self._folder.exists(damage.name)

    def _keep(self, damage: Damage, reader: SegmentReader) -> bool:
        try:
            self._folder.replace(damage.name, reader.content(damage.offset, damage.offset + damage.size_bytes))
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            return False
        return True
