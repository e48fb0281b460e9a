"""What a replay would be: how many results of how many contacts, and how many of them its consumer has already."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from schemas import wire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .known import Known
    from .sources import Found

_ASK_FOR = 20_000
_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Expected(msgspec.Struct, omit_defaults=True):
    """What was counted. None: not counted."""

    at_most: int = 0
    """By the offsets alone: whatever stands between the first and the last of them."""
    records: int | None = None
    contacts: int | None = None
    skipped: int | None = None
    """Records of results that the consumer's sink has: nothing will change for them."""
    contacts_changed: int | None = None
    """Contacts of the others: as many effects at most, since of several only the newest is sent to a CRM."""
    expired: bool = False
    """The topic once had more, before its beginning; `--source storage` may have it."""


class Tally:
    """Counts records that would be copied."""

    def __init__(self, known: Known | None) -> None:
        self._known = known
        self._contacts: set[bytes | None] = set()
        self._changed: set[bytes | None] = set()
        self._waiting: dict[str, bytes | None] = {}
        self._fresh: set[str] = set()
        self._records = 0
        self._repeats = 0
        self._skipped = 0

    async def add(self, found: Iterable[Found]) -> None:
        """Count these. Raises what the destination's database raises."""
        for one in found:
            self._records += 1
            self._contacts.add(one.key)
            if self._known and (event_id := event_id_of(one)):
                self._note(event_id, one.key)
        if len(self._waiting) >= _ASK_FOR:
            await self._ask()

    async def done(self, expected: Expected) -> Expected:
        """Return the result, with what was known before."""
        await self._ask()
        return Expected(
            at_most=expected.at_most,
            expired=expected.expired,
            records=self._records,
            contacts=len(self._contacts),
            skipped=self._skipped + self._repeats if self._known else None,
            contacts_changed=len(self._changed) if self._known else None,
        )

    def _note(self, event_id: str, key: bytes | None) -> None:
        if event_id in self._fresh or event_id in self._waiting:
            self._repeats += 1  # a repeat within the replay has no effect either
        else:
            self._waiting[event_id] = key

    async def _ask(self) -> None:
        if not (self._known and self._waiting):
            return
        there = await self._known.of(self._waiting)
        self._skipped += len(there)
        for event_id in self._waiting.keys() - there:
            self._fresh.add(event_id)
            self._changed.add(self._waiting[event_id])
        self._waiting.clear()


def event_id_of(found: Found) -> str | None:
    """Read the event's id: from its header, else from the value; None where there is none."""
    for name, value in found.headers:
        if name == "ce_id":
            return value.decode() if _UUID.fullmatch(value) else None
    try:
        return wire.decode(found.value).event_id
    except wire.InvalidRecord:
        return None
