"""The operators' command, `dial-results`: a table of subcommands, each loaded when it is asked for."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import click

_TRY_LATER = 75

# Name: where it is, and the line that `--help` shows for it. Loading all of them takes seconds; `--help` needs none.
COMMANDS = {
    "up": ("ops.standalone.up:up", "Run the whole pipeline on this machine, and prove that it works."),
    "part": ("ops.part:part", "Hold one part of a running `up` down, or bring it back."),
    "topics": ("ops.topics:topics", "Kafka's topics: create what is missing, report what differs."),
    "token": ("ops.token:token", "Make, list and retire the secrets in Blu's callback addresses."),
    "simulate": ("ops.simulate:simulate", "Post like Blu, then compare every promise with what the sinks hold."),
    "storage": ("ops.storage:storage", "PostgreSQL: tables and views, who may read them, how long results stay."),
    "query": ("ops.query:query", "Ask the analytics table: SQL, or a ready report as table, CSV, JSON or picture."),
    "replay": ("ops.replay:replay", "Give results again to one consumer, or to a topic of another team."),
    "redrive": ("ops.redrive:redrive", "A consumer's dead letters: seen by reason, given to it again, or purged."),
    "quarantine": ("ops.quarantine:quarantine", "Bodies that could not be read: look, mend by a rule, publish."),
    "reconcile": ("ops.reconcile:reconcile", "Ask Blu what it has, compare with storage, publish what never arrived."),
    "report": (
        "ops.report:report",
        "Whether all that came is accounted for, in every sink; how complete a task is.",
    ),
    "trace": ("ops.trace:trace", "Every hop of one result: where it came, what became of it in each sink."),
    "erase": ("ops.erase:erase", "Forget one contact in every sink, and leave it out from then on."),
    "journal": ("ops.journal:journal", "Look at a receiver's journal; send what is in it."),
}


class LazyGroup(click.Group):
    """A group whose commands are known by name, and imported only to be run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        if importlib.util.find_spec(module) is None:
            raise click.ClickException(f"`{cmd_name}` is not part of this installation: {module} is missing")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  # click's signature
        """Run a command; Ctrl-C, and a question that nobody answers, are no failed check: 75."""
        try:
            return super().invoke(ctx)
        except (click.Abort, KeyboardInterrupt):
            click.echo("\nnot done: interrupted, or not confirmed (--yes where nobody can answer)", err=True)
            ctx.exit(_TRY_LATER)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _line(*entry)) for name, entry in COMMANDS.items()])


def _line(where: str, says: str) -> str:
    missing = importlib.util.find_spec(where.partition(":")[0]) is None
    return f"{says} (MISSING in this installation)" if missing else says


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dial-results")
def main() -> None:
    """Take Blu's dial results, never lose one, and feed them to every team by way of Kafka.

    Exit codes: 0 done, 1 the check failed, 2 usage, 75 try again later, 78 stopped on purpose.
    """
