"""Which results a replay is about. The cheap questions come first: the key, then headers, and content only if asked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from schemas import wire
from schemas.mapping import FieldReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiokafka import ConsumerRecord

    from schemas.event import DialResult
    from schemas.merchants import Merchant


class Filters(msgspec.Struct, frozen=True, omit_defaults=True):
    """All of them have to hold; within one, any of its values. `since` counts, `until` does not any more."""

    since: datetime | None = None
    until: datetime | None = None
    merchants: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    conclusions: tuple[str, ...] = ()
    event_ids: tuple[str, ...] = ()

    def are_none(self) -> bool:
        """Tell whether every result is meant."""
        return self == Filters()

    def for_audit(self) -> dict[str, object]:
        """Return them for `ops.audit`: of single contacts and results how many, not which."""
        said = msgspec.to_builtins(self)
        return {name: len(value) if name in ("records", "event_ids") else value for name, value in said.items()}


class Matcher:
    """Tells whether a record of the topic is meant. The time that counts is `receivedAt`, not Kafka's."""

    def __init__(self, filters: Filters, merchants: Mapping[str, Merchant]) -> None:
        self._merchants = {name.encode() for name in filters.merchants}
        self._records = {name.encode() for name in filters.records}
        self._tasks = {name.encode() for name in filters.tasks}
        self._event_ids = {name.encode() for name in filters.event_ids}
        self._since = _written(filters.since)
        self._until = _written(filters.until)
        self._conclusions = set(filters.conclusions)
        self._by_headers = bool(self._tasks or self._event_ids or self._since or self._until)
        self._readers = {name: FieldReader(merchant) for name, merchant in merchants.items()}
        self._reader = FieldReader(None)

    def __call__(self, record: ConsumerRecord[bytes | None, bytes | None]) -> bool:
        """Answer. A record that is no event matches where nothing is asked about it."""
        if (self._merchants or self._records) and not self._key_fits(record.key or b""):
            return False
        if self._by_headers and not self._headers_fit(record):
            return False
        return not self._conclusions or self._content_fits(record.value)

    def _key_fits(self, key: bytes) -> bool:
        merchant, _, record_id = key.partition(b":")
        return (not self._merchants or merchant in self._merchants) and (
            not self._records or record_id in self._records
        )

    def _headers_fit(self, record: ConsumerRecord[bytes | None, bytes | None]) -> bool:
        headers = dict(record.headers)
        if not ("ce_id" in headers and "ce_time" in headers and "ce_subject" in headers):
            headers = _headers_of(record.value)
        at, event_id = headers.get("ce_time", b""), headers.get("ce_id", b"")
        task = headers.get("ce_subject", b"")[: -len((record.key or b"").partition(b":")[2]) - 1]
        return (
            (not self._since or at >= self._since)
            and (not self._until or at < self._until)
            and (not self._event_ids or event_id in self._event_ids)
            and (not self._tasks or task in self._tasks)
            and bool(headers)
        )

    def _content_fits(self, value: bytes | None) -> bool:
        try:
            event = wire.decode(value)
            return self._conclusion(event) in self._conclusions
        except wire.InvalidRecord:
            return False

    def _conclusion(self, event: DialResult) -> str | None:
        return self._readers.get(event.merchant, self._reader).read(event)[2]


def _headers_of(value: bytes | None) -> dict[str, bytes]:
    """Read what the headers would say out of the value: another producer may write none."""
    try:
        return dict(wire.encode(wire.decode(value)).headers)
    except wire.InvalidRecord:
        return {}


def _written(moment: datetime | None) -> bytes:
    """Write a moment as `ce_time` is, which sorts as text does."""
    return b"" if moment is None else wire.timestamp(moment.astimezone(UTC)).encode()
