"""How much room the journal may take: of its quota, and of the disk."""

from receiver.journal.folder import Folder
from receiver.journal.limits import JournalLimits

_SEGMENTS_IN_ROOM = 4  # one written, one prepared, one being published, one to spare
_PAGE_BYTES = 4096


class Room:
    """Asks the disk each time: other programs fill it too. Every method may raise OSError."""

    def __init__(self, folder: Folder, limits: JournalLimits) -> None:
        self._folder = folder
        self._limits = limits

    def holds(self, size_bytes: int, used_bytes: int) -> bool:
        """Tell whether so much more may be taken, beside what segments use already."""
        space = self._folder.disk.space(self._folder.path)
        used_after = space.total_bytes - space.free_bytes + size_bytes
        return (
            used_bytes + size_bytes <= self._limits.quota_bytes * self._limits.quota_share
            and used_after <= space.total_bytes * self._limits.disk_share
        )

    def segment_bytes(self) -> int:
        """Return the size asked for, or less where quota or disk would not hold four of them."""
        space = self._folder.disk.space(self._folder.path)
        room = min(
            self._limits.quota_bytes * self._limits.quota_share,
            space.total_bytes * self._limits.disk_share,
        )
        wanted = min(self._limits.segment_bytes, int(room) // _SEGMENTS_IN_ROOM)
        return max(_PAGE_BYTES, wanted // _PAGE_BYTES * _PAGE_BYTES)
