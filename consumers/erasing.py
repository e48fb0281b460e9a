"""Erases in this consumer's sink what was asked for, and leaves a receipt."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog

from schemas import topics

if TYPE_CHECKING:
    from consumers.settling import Settling
    from consumers.writer import Parts
    from schemas.erasure import Erasure

log = structlog.get_logger()

_LOOK_S = 1.0


class ReceiptsAway(Exception):  # noqa: N818  # a state of affairs
    """Receipts can neither be read nor left now."""


class Receipts(Protocol):
    """Where receipts are left: `ops.erasure_receipt`."""

    async def left(self) -> set[str]:
        """Return the ids of erasures for which this consumer has left one. Raises ReceiptsAway."""

    async def leave(self, erasure: Erasure, remains: str) -> None:
        """Leave one, once. Raises ReceiptsAway."""


class Eraser:
    """Every process of a consumer erases what it hears of: one that was frozen may have written the contact late.

    The receipt is left by whoever has the contact's partition, and has erased since it has: nobody else writes that
    contact then, and whoever has the partition next knows of the erasure before its first write.
    """

    def __init__(self, parts: Parts, settling: Settling, receipts: Receipts | None) -> None:
        self._parts = parts
        self._settling = settling
        self._receipts = receipts
        self._owed: dict[bytes, Erasure] = {}
        self._erased: dict[bytes, tuple[str, int, str]] = {}
        """By key: the erasure, in which tenure it was done here, and what remains."""

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            Exception: whatever a sink raises beside its contract.
        """
        done_before = await self._receipts_left()
        while True:
            await self._hear(done_before)
            for one in list(self._owed.values()) if self._parts.status.joined else ():
                await self._settle(one)
            self._parts.metrics.erasures_owed.set(len(self._owed))

    async def _receipts_left(self) -> set[str]:
        """Return what need not be done again; where that is not to be known, all is done again, which is harmless."""
        try:
            return await self._receipts.left() if self._receipts else set()
        except ReceiptsAway as away:
            log.warning("receipts_unknown", reason=str(away))
            return set()

    async def _hear(self, done_before: set[str]) -> None:
        """Take up what was asked for; wait a moment where nothing is."""
        asked = self._parts.suppression.asked
        try:
            async with asyncio.timeout(_LOOK_S):
                one = await asked.get()
        except TimeoutError:
            return
        if one.erasure_id not in done_before:
            self._owed[one.key] = one

    async def _settle(self, one: Erasure) -> None:
        tenure, ours = self._parts.tenure.number, self._has_partition(one.key)
        known = self._erased.get(one.key)
        if known is None or known[0] != one.erasure_id or (ours and known[1] != tenure):
            remains = await self._settling.erase(*one.contact)
            known = self._erased[one.key] = (one.erasure_id, tenure, remains)
            log.info("contact_erased", erasure_id=one.erasure_id)
        if ours and known[1] == self._parts.tenure.number and await self._receipt(one, known[2]):
            self._owed.pop(one.key)

    async def _receipt(self, one: Erasure, remains: str) -> bool:
        if self._receipts is None:
            log.warning("no_receipt", reason="CONSUMER_RECEIPTS_DSN is not set", erasure_id=one.erasure_id)
            return True
        try:
            await self._receipts.leave(one, remains)
        except ReceiptsAway as away:
            log.warning("receipt_not_left", reason=str(away), erasure_id=one.erasure_id)
            return False
        return True

    def _has_partition(self, key: bytes) -> bool:
        live = {place.partition for place in self._parts.consumer.assignment() if place.topic == topics.DIAL_RESULTS}
        every = self._parts.consumer.partitions_for_topic(topics.DIAL_RESULTS)
        return bool(every) and topics.partition_of(key, len(every)) in live
