"""What a CRM said of one item: the whole vocabulary between an adapter and the sink."""

from __future__ import annotations

from typing import NamedTuple


class Ok(NamedTuple):
    """The CRM holds the item's values."""

    remote_id: str | None


class Retry(NamedTuple):
    """Not done, or not known to be done: the same item may be sent again, as often as it takes.

    `after_s` is how long the CRM asked to be left alone, None if it did not say. `reason` is typed, for logs.
    """

    reason: str
    after_s: float | None = None
    named: bool = False
    """The CRM said this of this very item while it answers others: its patience has a limit (`patience.py`)."""


class Reject(NamedTuple):
    """This item can never succeed. `code` is a short typed reason: no personal data, no free text."""

    code: str


Outcome = Ok | Retry | Reject

UNAUTHORISED = "crm-unauthorised"
"""The reason of a Retry that only an operator can mend: token, scopes."""
