"""What `up` shows: progress while it starts, the proof's table, the live status."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rich.live import Live
from rich.table import Table

from ops.standalone.numbers import consumer_numbers, receiver_numbers
from ops.standalone.proof import DOCUMENTED_BODY

if TYPE_CHECKING:
    from rich.console import Console

    from ops.standalone.pipeline import Pipeline
    from ops.standalone.proof import Proof

_WHERE = {"storage": "PostgreSQL, table dial_result", "analytics": "Delta table", "crm": "sandbox CRM"}
_EVERY_S = 1.0
_PLAIN_EVERY_S = 10.0


def show_proof(console: Console, pipeline: Pipeline, proof: Proof) -> None:
    """Print what arrived where and how long it took, then how to post by hand."""
    table = Table(title="Blu's documented callback, from the receiver to every sink", title_justify="left")
    for title in ("where", "what", "after"):
        table.add_column(title, justify="right" if title == "after" else "left", no_wrap=True)
    table.add_row("receiver", "journaled, answered 200", f"{proof.acknowledged_ms:,.0f} ms")
    said = "a repeat of what was there: still once" if proof.repeat else "arrived, once"
    for name, after_ms in proof.arrived_ms.items():
        table.add_row(_WHERE[name], said, f"{after_ms:,.0f} ms")
    console.print(table)
    console.print(f"event id      {proof.event_id}", highlight=False)
    console.print(f"callback URL  {pipeline.callback_url}", highlight=False, soft_wrap=True)
    curl = f"curl -i -H 'Content-Type: application/json' --data-binary @{DOCUMENTED_BODY} {pipeline.callback_url}"
    console.print(f"try           {curl}", highlight=False, soft_wrap=True)
    console.print(f"addresses     {pipeline.folder.up_file}", highlight=False, soft_wrap=True)


async def live_status(console: Console, pipeline: Pipeline) -> None:
    """Show the running numbers until cancelled: in place on a terminal, as a line now and then elsewhere."""
    if not console.is_terminal:
        await _plain_status(console, pipeline)
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(await _status_table(pipeline), refresh=True)
            await asyncio.sleep(_EVERY_S)


async def _status_table(pipeline: Pipeline) -> Table:
    receiver, consumers = await asyncio.gather(receiver_numbers(pipeline), consumer_numbers(pipeline))
    table = Table(title="since the start of each part (Ctrl-C stops everything)", title_justify="left")
    table.add_column("part")
    for title in ("received", "journaled", "published", "done", "waiting", "dead letters"):
        table.add_column(title, justify="right")
    if receiver:
        counts = (receiver.received, receiver.journaled, receiver.published)
        table.add_row("receiver", *(f"{count:,}" for count in counts), "", f"{receiver.waiting:,}", "")
    else:
        table.add_row("receiver", "is down")
    for name, numbers in consumers.items():
        if numbers is None:
            table.add_row(name, "is down")
        else:
            note = "" if numbers.sink_available else " (its sink is away)"
            table.add_row(name + note, "", "", "", f"{numbers.done:,}", f"{numbers.lag:,}", f"{numbers.dead_letters:,}")
    return table


async def _plain_status(console: Console, pipeline: Pipeline) -> None:
    said = ""
    while True:
        receiver, consumers = await asyncio.gather(receiver_numbers(pipeline), consumer_numbers(pipeline))
        line = (
            f"receiver: received {receiver.received}, journaled {receiver.journaled}, published {receiver.published}"
            if (receiver)
            else "receiver: down"
        )
        for name, numbers in consumers.items():
            state = (
                f"done {numbers.done}, lag {numbers.lag}, dead letters {numbers.dead_letters}" if numbers else "down"
            )
            line += f"; {name}: {state}"
        if line != said:
            console.print(line, highlight=False, soft_wrap=True)
            said = line
        await asyncio.sleep(_PLAIN_EVERY_S)
