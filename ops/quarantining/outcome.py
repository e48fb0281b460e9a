"""What a quarantined body would be by today's decoder, after a rule: the very results of a body that was readable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.quarantining.rules import TOO_LARGE
from schemas.blu import BluRecord, CallbackBody, UnreadableCallback, decode_callback
from schemas.event import DialResult, dial_result

if TYPE_CHECKING:
    from ops.quarantining.kept import Kept
    from ops.quarantining.rules import Rule

_GROWN_BYTES = 16_000_000  # as the receiver has it: what the records may grow to, each with a copy of the envelope
_INDEX_IS_GONE = "no-such-record"


def results(kept: Kept, rule: Rule | None) -> list[DialResult]:
    """Return the results, with the original receive time; of one bad record among good ones that one alone.

    A body counts as readable when all of it is: what is published of it is settled for good.

    Raises:
        UnreadableCallback: it cannot be read even so.
    """
    body = decode_callback(kept.body if rule is None else rule.apply(kept.body))
    if len(body.envelope or b"") * len(body.records) > _GROWN_BYTES:
        raise UnreadableCallback(TOO_LARGE)
    received_ms = round(kept.received_at.timestamp() * 1000)
    return [
        dial_result(kept.merchant, body.task_id, record, received_ms, envelope=body.envelope)
        for record in _meant(kept, body)
    ]


def _meant(kept: Kept, body: CallbackBody) -> list[BluRecord]:
    bad = [one for one in body.unreadable if kept.index in (None, one.index)]
    if bad:
        raise UnreadableCallback(bad[0].reason)
    records = [record for record in body.records if kept.index in (None, record.index)]
    if kept.index is not None and not records:
        raise UnreadableCallback(_INDEX_IS_GONE)
    return records
