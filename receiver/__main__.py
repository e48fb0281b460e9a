"""The receiver as a process: settings from the environment, signals, exit codes.

SIGTERM and SIGINT stop it cleanly; SIGHUP reads the merchants' file and the certificate again; SIGUSR2 replaces the
workers, one after the other. Exit codes: 0 stopped, 1 a bug, 2 a setting or a file is wrong, 75 the journal is another
process's, or its disk failed: start it again.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import os
import resource
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import structlog
import uvloop
from pydantic import ValidationError

from receiver.app import TRY_AGAIN, Receiver
from receiver.heap import one_heap
from receiver.journal import JournalError
from receiver.publishing import PublishingProcess
from receiver.settings import ReceiverSettings
from receiver.tls import TlsFilesError
from receiver.workers import Leash, Supervisor
from schemas.kafka import KafkaSettings
from schemas.logs import configure_logging
from schemas.merchants import MerchantsFileError
from schemas.quiet import quieten, report_stray, report_uncaught

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from receiver.counts import PublishCounts
    from receiver.journal import Journal

log = structlog.get_logger()

USAGE = 2

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one receiver, or several; return the exit code."""
    asked = _arguments(arguments)
    try:
        settings = ReceiverSettings(**({"workers": asked.workers} if asked.workers else {}))
        kafka_options = KafkaSettings().client_options()
    except ValidationError as error:
        return _usage(_sentences(error))
    except OSError as error:
        return _usage(f"a file named in KAFKA_...: {error}")
    if kafka_options.get("sasl_mechanism") and not (
        kafka_options["sasl_plain_username"] and kafka_options["sasl_plain_password"]
    ):
        return _usage("KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD: a SASL_ protocol needs both")
    one_heap()
    _raise_file_limit()
    configure_logging("receiver" if asked.worker is None else f"receiver-{asked.worker}", settings.log_level)
    quieten()
    sys.excepthook = report_uncaught
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings, asked))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m receiver",
        description="Take Blu's callbacks. Settings come from the environment; the README lists them.",
        epilog="SIGTERM stops cleanly, SIGHUP reads the merchants' file again, SIGUSR2 replaces the workers in turn.",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes that share the port (RECEIVER_WORKERS, 1)")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # these two are the supervisor's
    parser.add_argument("--leash", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


async def _run(settings: ReceiverSettings, asked: argparse.Namespace) -> int:
    asyncio.get_running_loop().set_exception_handler(report_stray)
    if asked.worker is not None:
        return await _receive(settings.of_worker(asked.worker), Leash(asked.leash))
    if settings.workers > 1:
        return await _supervise(Supervisor(settings, dict(os.environ)))
    return await _receive(settings, None)


async def _supervise(supervisor: Supervisor) -> int:
    stop = asyncio.Event()
    with _signals(stop, supervisor.reload, supervisor.roll):
        return await supervisor.run(stop)


async def _receive(settings: ReceiverSettings, leash: Leash | None) -> int:
    def publishing(journal: Journal, counts: PublishCounts) -> PublishingProcess:
        return PublishingProcess(journal, counts, settings.log_level, KafkaSettings().client())

    try:
        receiver = Receiver(settings, publishing)
    except (MerchantsFileError, TlsFilesError) as error:
        return _usage(str(error))
    except JournalError as error:
        log.error("journal_not_opened", reason=str(error))  # noqa: TRY400  # the reason is ours, and says it all
        return TRY_AGAIN
    _collect_seldom()
    _keep_freed_memory()
    stop = asyncio.Event()
    holding = asyncio.create_task(leash.hold(receiver, stop)) if leash else None
    with _signals(stop, receiver.reload):
        try:
            return await receiver.run(stop)
        finally:
            if holding:
                holding.cancel()


def _collect_seldom() -> None:
    """Let the garbage collector look at what stays hardly ever: 8 % of the processor time of a busy receiver.

    A callback makes nothing that refers to itself; references alone free it.
    """
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)


def _keep_freed_memory() -> None:
    """Let glibc keep what a large body has used: giving it back each time was half of its processor time.

    mallopt(3): up to 8 MB at the end of the heap stay, and pieces up to 4 MB are not mapped one by one.
    """
    with suppress(OSError, AttributeError):  # another libc, and another way
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, 8 << 20)
        mallopt(_M_MMAP_THRESHOLD, 4 << 20)


@contextmanager
def _signals(stop: asyncio.Event, reload: Callable[[], None], roll: Callable[[], None] | None = None) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    handlers = {signal.SIGTERM: stop.set, signal.SIGINT: stop.set, signal.SIGHUP: reload}
    if roll:
        handlers[signal.SIGUSR2] = roll
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
