"""The receiver as a process: settings from the environment, signals, exit codes.

SIGTERM and SIGINT stop it cleanly; SIGHUP reads the merchants' file and the certificate again. Exit codes: 0 stopped,
1 a bug, 2 a setting or a file is wrong, 75 the journal is another process's, or its disk failed: start it again.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
import uvloop
from pydantic import ValidationError

from receiver.app import TRY_AGAIN, Receiver
from receiver.journal import JournalError
from receiver.publishing import PublishingProcess
from receiver.settings import ReceiverSettings
from receiver.tls import TlsFilesError
from schemas.kafka import KafkaSettings
from schemas.logs import configure_logging
from schemas.merchants import MerchantsFileError
from schemas.quiet import quieten, report_stray, report_uncaught

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.counts import PublishCounts
    from receiver.journal import Journal

log = structlog.get_logger()

USAGE = 2


def main() -> int:
    """Run one receiver; return the exit code."""
    try:
        settings = ReceiverSettings()
        kafka_options = KafkaSettings().client_options()
    except ValidationError as error:
        return _usage(_sentences(error))
    except OSError as error:
        return _usage(f"a file named in KAFKA_...: {error}")
    if kafka_options.get("sasl_mechanism") and not (
        kafka_options["sasl_plain_username"] and kafka_options["sasl_plain_password"]
    ):
        return _usage("KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD: a SASL_ protocol needs both")
    _raise_file_limit()
    configure_logging("receiver", settings.log_level)
    quieten()
    sys.excepthook = report_uncaught
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings))


async def _run(settings: ReceiverSettings) -> int:
    asyncio.get_running_loop().set_exception_handler(report_stray)

    def publishing(journal: Journal, counts: PublishCounts) -> PublishingProcess:
        return PublishingProcess(journal, counts, settings.journal_dir, settings.log_level, dict(os.environ))

    try:
        receiver = Receiver(settings, publishing)
    except (MerchantsFileError, TlsFilesError) as error:
        return _usage(str(error))
    except JournalError as error:
        log.error("journal_not_opened", reason=str(error))  # noqa: TRY400  # the reason is ours, and says it all
        return TRY_AGAIN
    _collect_seldom()
    stop = asyncio.Event()
    with _signals(stop, receiver):
        return await receiver.run(stop)


def _collect_seldom() -> None:
    """Let the garbage collector look at what stays hardly ever: 8 % of the processor time of a busy receiver.

    A callback makes nothing that refers to itself; references alone free it.
    """
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)


@contextmanager
def _signals(stop: asyncio.Event, receiver: Receiver) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    handlers = {signal.SIGTERM: stop.set, signal.SIGINT: stop.set, signal.SIGHUP: receiver.reload}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


def _raise_file_limit() -> None:
    """Take as many open files as we are allowed: each connection is one, and 1,024 is a usual limit until asked."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _usage(message: str) -> int:
    print(f"receiver: {message}", file=sys.stderr)  # noqa: T201  # logging may not be set up yet
    return USAGE


def _sentences(error: ValidationError) -> str:
    """Say which settings are wrong and how; their values may be secrets."""
    problems = error.errors(include_input=False, include_url=False)
    prefix = {"ReceiverSettings": "RECEIVER_", "KafkaSettings": "KAFKA_"}.get(error.title, "")
    return "; ".join(f"{prefix}{'_'.join(map(str, problem['loc'])).upper()}: {problem['msg']}" for problem in problems)


if __name__ == "__main__":
    sys.exit(main())
