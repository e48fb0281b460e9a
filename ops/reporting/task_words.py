"""What `report task` says: an object for machines, lines for people. Nothing of what a result says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from .task import Task


def told(found: Task, task_id: str, uploaded: int | None, late_after: timedelta) -> dict[str, Any]:
    """Return the counts; `complete`: something came, and of every uploaded contact, if their number is known."""
    missing = found.missing(uploaded)
    return {
        "task": task_id,
        **vars(found),
        "since": found.since.isoformat(timespec="seconds"),
        "until": found.until.isoformat(timespec="seconds"),
        "contacts": len(found.contacts),
        "uploaded": uploaded,
        "missing": missing,
        "late_after_s": late_after.total_seconds(),
        "complete": bool(found.received) and not missing,
    }


def lines(told: Mapping[str, Any]) -> list[str]:
    """Return the same for a terminal."""
    uploaded = f"of {told['uploaded']} uploaded; {told['missing']} MISSING"
    if told["uploaded"] is None:
        uploaded = "--uploaded would say how many are missing"
    late = f"over {told['late_after_s']:.0f} s after the call; {told['without_call_time']} do not say when that was"
    return [
        f"task {printable(told['task'])} of {told['merchant'] or 'a merchant that storage does not know'}",
        f"  received     {told['received']} results, each counted once; {told['reconciled']} of them reconciled",
        f"  contacts     {told['contacts']} ({uploaded})",
        f"  late         {told['late']} ({late})",
        f"  duplicates   {told['duplicates']} repeats, {told['re_sent']} re-sent, in the topic from {told['since']} on",
        f"  storage      {told['waiting']} wait for it; {told['not_in_storage']} are dead, erased or deleted there",
        f"  quarantined  {told['quarantined_of_merchant']} of the merchant in that time; of which task cannot be known",
    ]
