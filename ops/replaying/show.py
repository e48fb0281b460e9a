"""What a person is shown of a replay, or with `--json` a script. Standard output is for the result alone."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .jobs import Job
    from .plan import Expected


class Show:
    """Speaks on standard error, and not at all with `as_json`."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(stderr=True, quiet=as_json)

    def say(self, text: str) -> None:
        """Say how it goes."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def plan(self, expected: Expected, rate: int, consumer: str | None) -> None:
        """Say what it would be."""
        count = expected.at_most if expected.records is None else expected.records
        self.say(f"{count:,} records" + ("" if expected.contacts is None else f" of {expected.contacts:,} contacts"))
        if expected.skipped is not None:
            self.say(
                f"{expected.skipped:,} of them the {consumer} consumer has applied already, and skips; "
                f"0 effects are repeated, {expected.contacts_changed:,} contacts have something new"
            )
        if rate:
            self.say(f"takes {timedelta(seconds=round(count / rate))} at {rate:,} records/s")
        if expected.expired:
            self.say("the topic has lost its oldest records to retention: `--source storage` has results of that time")

    def job(self, job: Job) -> None:
        """Show one job whole."""
        if self._as_json:
            click.echo(orjson.dumps(job.told()))
            return
        for name, value in job.told().items():
            click.echo(f"{name:<11} {orjson.dumps(value).decode() if isinstance(value, dict) else value}")

    def dry(self, expected: Expected) -> None:
        """Show a count that nothing follows."""
        if self._as_json:
            click.echo(orjson.dumps({name: getattr(expected, name) for name in expected.__struct_fields__}))

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Any]:
        """Give a function that moves a progress bar to a number."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        ) as progress:
            task = progress.add_task(what, total=total)
            yield lambda number: progress.update(task, completed=number)
