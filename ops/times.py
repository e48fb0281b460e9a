"""Times as operators write them: ISO, `yesterday`, `2h`; the type of every `--since` and `--until`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

import click

_AGO = re.compile(r"(\d{1,6})\s*(s|min|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_FORMS = "give ISO (2026-11-24, 2026-11-24T08:30, 2026-11-24T08:30:00+08:00), now, today, yesterday, or 2h for ago"


def parse_time(text: str, now: datetime, zone: tzinfo = UTC) -> datetime:
    """Read a time, relative to `now`; the result is aware, in `zone` unless the text names another.

    A date, `today` and `yesterday` mean the beginning of that day in `zone`; `90s 15m 2h 3d 1w` mean so long ago.

    Raises:
        ValueError: it is none of these, or lies outside the calendar; the message says what would be understood.
    """
    word = text.strip().lower()
    here = now.astimezone(zone)
    try:
        return _named(word, here) or _ago(word, here) or _iso(text.strip(), zone)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time: {_FORMS}") from None


def _named(word: str, here: datetime) -> datetime | None:
    if word == "now":
        return here
    if word not in ("today", "yesterday"):
        return None
    # By the calendar, not by 24 hours: a day may have 23 or 25.
    day = here.date() - timedelta(days=word == "yesterday")
    return datetime(day.year, day.month, day.day, tzinfo=here.tzinfo)


def _ago(word: str, here: datetime) -> datetime | None:
    found = _AGO.fullmatch(word)
    if found is None:
        return None
    elapsed = timedelta(**{_UNITS[found[2]]: int(found[1])})
    return (here.astimezone(UTC) - elapsed).astimezone(here.tzinfo)  # an hour is an hour, also when clocks change


def _iso(text: str, zone: tzinfo) -> datetime:
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=zone)


class TimeType(click.ParamType[datetime]):
    """A click option's type: gives an aware datetime."""

    name = "time"

    def convert(self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return parse_time(value, datetime.now(UTC))
        except ValueError as error:
            self.fail(str(error), param, ctx)
