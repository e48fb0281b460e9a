"""The callbacks that Blu posts: who is called, what came of it, and how the body is written. All of it from a seed.

Each callback carries, beside its bytes, what those bytes say (`canonical`), known because the simulator made it up and
not because anybody decoded it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from . import people
from .text import CANONICAL, DOCUMENTED, Stopped, Style, Unescaped, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

CALLS_PER_TASK = 300
_REMEMBERED = 500  # contacts that may be called again
_CALLED_AGAIN = 0.3  # share of calls that go to one of those
_RICH = 0.6  # share of callbacks with slots and scripts
_STYLES = (DOCUMENTED, Style(), Style(comma=", ", colon=": "), Style(ascii_only=True), Style(indent=2, colon=" : "))
_WRITINGS = ("good", "good", "good", "stop", "unescaped", "both")


@dataclass(frozen=True, slots=True)
class Callback:
    """One dial result on its way: `called_at` is aware, UTC, None for the plain kind; `writing` names its defects."""

    number: int
    task_id: str
    record_id: str
    called_at: datetime | None
    canonical: bytes
    body: bytes
    writing: str


@dataclass(slots=True)
class _Contact:
    record_id: str
    name: str
    mobile: str
    ext_vars: Any
    call_vars: Any
    calls: int = 0
    plain_in: set[str] = field(default_factory=set)


def callbacks(seed: int, day: date, timezone: ZoneInfo, count: int) -> Iterator[Callback]:
    """Yield `count` callbacks, the same for the same seed and day; a longer run begins as a shorter one does.

    Ids are unique within a run and, short of a collision of hashes, over seeds and days.
    """
    dialler = _Dialler(seed, day, timezone)
    return (dialler.call(number) for number in range(count))


class _Dialler:
    def __init__(self, seed: int, day: date, timezone: ZoneInfo) -> None:
        digest = hashlib.sha256(f"{seed} {day}".encode()).digest()
        self._random = Random(digest)  # noqa: S311  # made-up people, not secrets
        self._day = day
        self._timezone = timezone
        self._tasks_from = (10**10 + int.from_bytes(digest[:5]) % 10**10) * 10_000
        self._records_from = (10**8 + int.from_bytes(digest[5:10]) % (8 * 10**8)) * 10**7
        self._recent: deque[_Contact] = deque(maxlen=_REMEMBERED)

    def call(self, number: int) -> Callback:
        task = self._tasks_from + number // CALLS_PER_TASK
        contact = self._contact(number)
        contact.calls += 1
        called_at = None if self._is_plain(contact, str(task)) else self._call_time(number)
        record = self._record(contact, called_at)
        writing = self._random.choice(_WRITINGS)
        body = self._body(task, record, writing)
        moment = called_at and called_at.astimezone(UTC)
        canonical = write(record, CANONICAL).encode()
        return Callback(number, str(task), contact.record_id, moment, canonical, body.encode(), writing)

    def _contact(self, number: int) -> _Contact:
        if self._recent and self._random.random() < _CALLED_AGAIN:
            return self._random.choice(self._recent)
        unique, name = self._records_from + number, people.name(self._random)
        record_id = f"00{unique}" if self._random.random() < 0.02 else str(unique)  # noqa: PLR2004
        variables = people.ext_vars(self._random, unique), people.call_vars(self._random, name)
        contact = _Contact(record_id, name, people.mobile(self._random), *variables)
        if self._random.random() < 0.1:  # noqa: PLR2004
            contact.ext_vars = people.other_text(self._random)
        self._recent.append(contact)
        return contact

    def _is_plain(self, contact: _Contact, task_id: str) -> bool:
        """Two plain results of one contact in one task would say the same, and so be one: the second is a rich one."""
        plain = task_id not in contact.plain_in and self._random.random() >= _RICH
        if plain:
            contact.plain_in.add(task_id)
        return plain

    def _call_time(self, number: int) -> datetime:
        """Calls go on all day; their results come in a little out of order."""
        seconds = 8 * 3600 + number % 30_000 + self._random.randrange(-900, 900)
        return datetime.combine(self._day, time(), self._timezone) + timedelta(seconds=seconds)

    def _record(self, contact: _Contact, called_at: datetime | None) -> dict[str, Any]:
        record = {
            "id": self._number_or_text(contact.record_id),
            "name": contact.name,
            "mobile": contact.mobile,
            "extVars": contact.ext_vars,
            "callVars": contact.call_vars,
        }
        if called_at is None:
            return record
        return record | {
            "conclusion": self._random.choice(people.CONCLUSIONS),
            "callTime": f"{called_at:%Y-%m-%d %H:%M:%S}",
            "duration": self._random.randrange(180),
            "dialCount": contact.calls,  # no two calls of a contact say the same
            "slots": people.slots(self._random, f"{self._day}"),
            "scripts": people.scripts(self._random),
        }

    def _number_or_text(self, digits: str) -> int | str:
        is_number = not digits.startswith("0") and self._random.random() < 0.8  # noqa: PLR2004
        return int(digits) if is_number else digits

    def _body(self, task: int, record: dict[str, Any], writing: str) -> str:
        written = dict(record)
        if writing in ("unescaped", "both"):
            written |= {
                name: Unescaped(record[name]) for name in ("extVars", "callVars") if isinstance(record[name], dict)
            }
        elif self._random.random() < 0.4:  # noqa: PLR2004
            written["extVars"] = self._escaped(record["extVars"])
            written["callVars"] = self._escaped(record["callVars"])
        stop = writing in ("stop", "both")
        if stop and isinstance(record["id"], int) and self._random.random() < 0.2:  # noqa: PLR2004
            written["id"] = Stopped(record["id"])
        task_id = Stopped(task) if stop else self._number_or_text(str(task))
        return write({"taskId": task_id, "records": [written]}, self._random.choice(_STYLES))

    def _escaped(self, variables: Any) -> Any:  # noqa: ANN401
        """Put an object into a string as it should be done; a reader must find the same object."""
        return write(variables, Style(comma=", ", colon=": ")) if isinstance(variables, dict) else variables
