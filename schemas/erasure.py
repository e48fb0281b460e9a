"""A record of `dial-results.erased`: one contact that is to be forgotten everywhere."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import msgspec


class Erasure(NamedTuple):
    """Key of the record: `merchant:recordId`, as in `dial-results`; the latest of a contact counts."""

    key: bytes
    erasure_id: str
    who: str
    requested_at: datetime

    @property
    def contact(self) -> tuple[str, str]:
        """Merchant and record id; a merchant's name has no colon."""
        merchant, _, record_id = self.key.decode(errors="replace").partition(":")
        return merchant, record_id


class ErasureValue(msgspec.Struct, rename="camel"):
    """What the record says beside its key. A record without a value ends the suppression."""

    erasure_id: str
    who: str
    requested_at: datetime


_decoder = msgspec.json.Decoder(ErasureValue)


def encode(erasure: Erasure) -> bytes:
    """Return the record's value."""
    return msgspec.json.encode(ErasureValue(erasure.erasure_id, erasure.who, erasure.requested_at.astimezone(UTC)))


def decode(key: bytes, value: bytes) -> Erasure | None:
    """Read a record; None where it is not ours. The contact is suppressed all the same: the key says which."""
    try:
        read = _decoder.decode(value)
    except msgspec.MsgspecError:
        return None
    return Erasure(key, read.erasure_id, read.who, read.requested_at)
