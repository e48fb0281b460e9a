"""A large analytics table, made in a minute: rows as the sink writes them, under ever new ids."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Sequence
from typing import Any

from arro3.core import Table

from consumers.sinks.analytics.conclusions import GROUPS
from consumers.sinks.analytics.lake import Lake
from consumers.sinks.analytics.rows import DAY_US, SCHEMA, array
from consumers.sinks.analytics.settings import Settings
from consumers.sinks.analytics.tidying import Tidying

_STEP = 250_000
_CALLS_PER_CONTACT = 10
_HOUR_US = 3_600_000_000


def fill(uri: str, rows: int, hours: int) -> None:
    """Add rows that were received evenly over so many hours up to an hour ago, of a tenth as many contacts."""
    settings = Settings(uri=uri, pseudonym_key="benchmark")
    lake, tidying = Lake(settings), Tidying(settings, 0)
    chance = random.Random(1)  # noqa: S311  # made-up data
    contacts = chance.choices(range(rows // _CALLS_PER_CONTACT), k=_STEP)
    columns = _same_columns(contacts, chance)
    begin = time.time_ns() // 1_000 - (hours + 1) * _HOUR_US
    for done in range(0, rows, _STEP):
        first = begin + hours * _HOUR_US * done // rows
        received = [first + number * hours * _HOUR_US // rows for number in range(_STEP)]
        hour = 3 * _HOUR_US  # calls of the three hours before
        called = [at - chance.randrange(hour) for at in received]
        days = [at // DAY_US for at in received]
        moved = [str(5 * 10**12 + (contact + done) % (rows // _CALLS_PER_CONTACT)) for contact in contacts]
        fresh = {"event_id": _ids(), "record_id": moved, "received_at": received, "date": days, "called_at": called}
        values: dict[str, Sequence[Any]] = {field.name: [None] * _STEP for field in SCHEMA} | columns | fresh
        lake.append(
            Table([array(values[field.name], field.type) for field in SCHEMA], schema=SCHEMA),
            {"1/made-up": done + _STEP},
        )
    if tidying.is_due(lake.version):
        tidying.tidy(lake.version)


def _same_columns(contacts: Sequence[int], chance: random.Random) -> dict[str, Sequence[Any]]:
    pairs = [(code, group) for group, codes in GROUPS.items() for code in codes]
    said = chance.choices(pairs, k=_STEP)
    return {
        "merchant": ["demo"] * _STEP,
        "task_id": [str(10**13 + number // 300) for number in range(_STEP)],
        "source": ["callback"] * _STEP,
        "conclusion": [code for code, _ in said],
        "conclusion_group": [group for _, group in said],
        "duration_s": [float(number % 200) for number in range(_STEP)],
        "person": [hashlib.sha256(str(contact).encode()).hexdigest() for contact in contacts],
    }


def _ids() -> list[str]:
    text = os.urandom(16 * _STEP).hex()
    parts = (text[place : place + 32] for place in range(0, 32 * _STEP, 32))
    return [f"{one[:8]}-{one[8:12]}-8{one[13:16]}-8{one[17:20]}-{one[20:]}" for one in parts]
