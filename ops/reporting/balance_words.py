"""What `report balance` says: both halves, and whether they are even."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .balance import HOUR, Published, Sheet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from .callbacks import Callbacks

_SHOWN = 10
_PARTS = ("applied", "superseded", "waiting", "dead", "erased")


@dataclass(frozen=True)
class Balance:
    """One hour's results, and the receiver's callbacks; None where nobody named a receiver, or it does not answer."""

    since: datetime
    published: Published
    sheets: Mapping[str, Sheet]
    callbacks: Callbacks | None

    @property
    def even(self) -> bool:
        """Whatever was counted adds up."""
        return not any(sheet.missing for sheet in self.sheets.values()) and (not self.callbacks or self.callbacks.even)

    def told(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "hour": self.since.isoformat(),
            "even": self.even,
            "published": self.published.records,
            "first_time": len(self.published.first),
            "repeats": self.published.repeats,
            "re_sent": self.published.resent,
            "reconciled": self.published.reconciled,
            "sinks": {name: asdict(sheet) for name, sheet in self.sheets.items()},
            "callbacks": self.callbacks and asdict(self.callbacks) | {"lost": self.callbacks.lost},
        }

    def lines(self) -> Iterator[str]:
        """Give it for people."""
        if self.callbacks:
            yield from _callbacks(self.callbacks)
        published = self.published
        yield f"results received from {self.since:%Y-%m-%d %H:%M} to {self.since + HOUR:%H:%M} UTC"
        yield (
            f"published {published.records} = {len(published.first)} first-time + {published.repeats} repeats "
            f"+ {published.resent} re-sent; {published.reconciled} of the first-time were reconciled"
        )
        for name, sheet in self.sheets.items():
            yield from _sheet(name, sheet)


def _callbacks(counted: Callbacks) -> Iterator[str]:
    yield "callbacks since the receiver's start"
    yield f"received {counted.received} = {counted.acknowledged} acknowledged + {counted.refused} refused"
    told = "" if counted.even else f"; {counted.lost} MISSING" if counted.lost > 0 else "; NOT EVEN"
    yield (
        f"journaled {counted.journaled} + {counted.recovered} recovered = {counted.decoded} decoded "
        f"+ {counted.quarantined} quarantined + {counted.empty} empty + {counted.damaged} damaged "
        f"+ {counted.waiting} still journaled{told}"
    )


def _sheet(name: str, sheet: Sheet) -> Iterator[str]:
    parts = " + ".join(f"{getattr(sheet, part)} {part}" for part in _PARTS)
    yield f"{name:<10} {sheet.first_time} = {parts}" + (f"; {len(sheet.missing)} MISSING" if sheet.missing else "")
    for event_id in sheet.missing[:_SHOWN]:
        yield f"           missing: event {event_id}"
