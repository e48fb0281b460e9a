"""What `up` shows: the proof's table, how to go on by hand, and the running numbers."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from rich.live import Live
from rich.table import Table

from ops.standalone.numbers import consumer_numbers, receiver_numbers
from ops.standalone.proof import DOCUMENTED_BODY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from ops.standalone.numbers import ConsumerNumbers, ReceiverNumbers
    from ops.standalone.pipeline import Pipeline
    from ops.standalone.proof import Proof
    from ops.standalone.supervisor import Supervised

_WHERE = {"storage": "PostgreSQL", "analytics": "Delta table", "crm": "sandbox CRM"}
_EVERY_S = 1.0
_PLAIN_EVERY_S = 60.0  # a line where nothing is shown in place; sooner while a part is down
_COLUMNS = ("received", "journaled", "published", "quarantined", "done", "lag", "dead letters")


def show_proof(console: Console, pipeline: Pipeline, proof: Proof) -> None:
    """Print what arrived where and how long it took, then how to post by hand."""
    table = Table("where", "what", title="Blu's documented callback", title_justify="left")
    table.add_column("after", justify="right")
    table.add_row("receiver", "journaled, answered 200", f"{proof.acknowledged_ms:,.0f} ms")
    place = f"dial-results, partition {proof.place.partition}, offset {proof.place.offset}"
    table.add_row("Kafka", place, f"{proof.published_ms:,.0f} ms")
    for name, after_ms in proof.committed_ms.items():
        said = "a repeat of what it had: still there once" if name in proof.repeats else "there, once"
        table.add_row(_WHERE[name], said, f"{after_ms:,.0f} ms")
    console.print(table)
    curl = f"curl -H 'Content-Type: application/json' --data-binary @{DOCUMENTED_BODY} {pipeline.callback_url}"
    hints = {
        "event id": proof.event_id,
        "callback URL": pipeline.callback_url,
        "try": curl,
        "for scripts": str(pipeline.folder.up_file),
    }
    for name, text in hints.items():
        console.print(f"{name:<12} {text}", highlight=False, soft_wrap=True, markup=False)


async def live_status(console: Console, pipeline: Pipeline, parts: Mapping[str, Supervised]) -> None:
    """Show the running numbers until cancelled: in place on a terminal, as a line now and then elsewhere."""
    if not console.is_terminal:
        await _plain_status(console, pipeline, parts)
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(_table(*await _numbers(pipeline), parts), refresh=True)
            await asyncio.sleep(_EVERY_S)


async def _plain_status(console: Console, pipeline: Pipeline, parts: Mapping[str, Supervised]) -> None:
    said, said_at = "", 0.0
    while True:
        line = _line(*await _numbers(pipeline), parts)
        if line != said and (not said or time.monotonic() - said_at > _PLAIN_EVERY_S or _down(parts)):
            console.print(line, highlight=False, soft_wrap=True, markup=False)
            said, said_at = line, time.monotonic()
        await asyncio.sleep(_EVERY_S)


async def _numbers(pipeline: Pipeline) -> tuple[ReceiverNumbers | None, dict[str, ConsumerNumbers | None]]:
    return await asyncio.gather(receiver_numbers(pipeline), consumer_numbers(pipeline))


def _table(
    receiver: ReceiverNumbers | None,
    consumers: Mapping[str, ConsumerNumbers | None],
    parts: Mapping[str, Supervised],
) -> Table:
    title = "\nSince each part's start; Ctrl-C stops everything"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))  # fits 80 columns
    table.add_column("", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    rows = {name: [""] * len(_COLUMNS) for name in parts}
    if receiver:
        rows["receiver"][:4] = _thousands(
            receiver.received, receiver.journaled, receiver.published, receiver.quarantined
        )
        rows["receiver"][5] = f"{receiver.waiting:,}"
    for name, numbers in consumers.items():
        if numbers:
            rows[name][4:] = _thousands(numbers.done, numbers.lag, numbers.dead_letters)
    for name, row in rows.items():
        state = _state(parts[name])
        table.add_row(f"{name}: {state}" if state else name, *row)
    return table


def _thousands(*numbers: int) -> list[str]:
    return [f"{number:,}" for number in numbers]


def _state(part: Supervised) -> str:
    """Say why it does not run; nothing where it does."""
    if part.held:
        return "held down"
    return "restarting" if part.pid is None else ""


def _down(parts: Mapping[str, Supervised]) -> list[str]:
    return [f"{name} {state}" for name, part in parts.items() if (state := _state(part))]


def _line(
    receiver: ReceiverNumbers | None,
    consumers: Mapping[str, ConsumerNumbers | None],
    parts: Mapping[str, Supervised],
) -> str:
    said = []
    if receiver:
        said.append(
            f"received {receiver.received:,}, journaled {receiver.journaled:,} ({receiver.waiting:,} waiting), "
            f"published {receiver.published:,}, quarantined {receiver.quarantined:,}"
        )
    for name, numbers in consumers.items():
        if numbers:
            said.append(f"{name}: done {numbers.done:,}, lag {numbers.lag:,}, dead letters {numbers.dead_letters:,}")
    return "; ".join([*said, *_down(parts)])
