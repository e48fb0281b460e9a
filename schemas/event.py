"""The event: one dial result, and its identity."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from . import exact

if TYPE_CHECKING:
    from .blu import BluRecord

CALLBACK = "callback"
RECONCILE = "reconcile"

UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_Id = Annotated[str, msgspec.Meta(min_length=1)]


class InvalidRecord(ValueError):  # noqa: N818  # the name of the thing, as the contract calls it
    """A record that is no event of this contract. `reason` is typed: nothing of the record is in it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DialResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel", dict=True):
    """One result of one call, as every subscriber sees it.

    `received_at` is aware, UTC, in milliseconds. `result` is Blu's record as JSON: every field that came, by Blu's own
    names, no digit changed. `envelope` holds what the callback's body said beside `taskId` and `records`, if anything.
    """

    event_id: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": UUID})]  # wire.decode looks: half the time
    merchant: _Id
    task_id: _Id
    record_id: _Id
    received_at: Annotated[datetime, msgspec.Meta(tz=True)]
    source: str
    result: msgspec.Raw
    envelope: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    def record(self) -> dict[str, Any]:
        """Return the record: whole numbers exact, others as `Decimal`. Decoded at the first use; do not change it.

        Raises:
            InvalidRecord: it says something that no reader can hold, as no record of our receiver does.
        """
        return self._record

    @cached_property
    def _record(self) -> dict[str, Any]:
        try:
            record = exact.decode_decimals(self.result)
        except exact.FAILURES as error:
            raise refusal(error) from None
        if not isinstance(record, dict):
            raise InvalidRecord("not-an-event")
        return record

    @property
    def key(self) -> bytes:
        """The record's key in Kafka: results of one contact stay together."""
        return f"{self.merchant}:{self.record_id}".encode()


def refusal(failure: Exception) -> InvalidRecord:
    """Give one of `exact.FAILURES` its typed reason: `not-an-event`, `too-deep` or `not-json`."""
    if isinstance(failure, msgspec.ValidationError):
        return InvalidRecord("not-an-event")
    return InvalidRecord("too-deep" if isinstance(failure, RecursionError) else "not-json")


def event_id(merchant: str, task_id: str, record_id: str, canonical: bytes) -> str:
    """Name a result by what it says: a UUIDv8 (RFC 9562) of SHA-256 over its place and its canonical record.

    Blu's retries, a re-sent journal, a replay and a reconciliation of the same result all give the same id.
    """
    text = hashlib.sha256(f"{merchant}\0{task_id}\0{record_id}\0".encode() + canonical).hexdigest()
    return f"{text[:8]}-{text[8:12]}-8{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:32]}"


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


@lru_cache(maxsize=64)  # at full speed twenty callbacks share a millisecond
def moment(ms: int) -> datetime:
    """Return a moment given in milliseconds since 1970, aware and UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def dial_result(  # the receiver calls it once a record, so ids are computed in one place only
    merchant: str,
    task_id: str,
    record: BluRecord,
    received_ms: int,
    *,
    source: str = CALLBACK,
    envelope: bytes | None = None,
) -> DialResult:
    """Make the event of one record; `received_ms` is the receiver's clock, milliseconds since 1970."""
    return DialResult(
        event_id=event_id(merchant, task_id, record.record_id, record.content),
        merchant=merchant,
        task_id=task_id,
        record_id=record.record_id,
        received_at=moment(received_ms),
        source=source,
        result=msgspec.Raw(record.content),
        envelope=msgspec.UNSET if envelope is None else msgspec.Raw(envelope),
    )
