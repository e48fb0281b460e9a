"""`python -m consumers SINK [--check | --dry-run]` runs one consumer, `--list` names the sinks.

Settings come from the environment. SIGTERM and SIGINT stop it cleanly. Exit codes: 0 stopped, or the check held; 1 a
bug, or the check failed; 2 an argument, a setting or a file is wrong; 75 start it again; 78 stopped on purpose: a human
looks first.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
import threading
from contextlib import AsyncExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import structlog
import uvloop
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from consumers import broker
from consumers.consumer import Consumer, Destination
from consumers.dry_run import dry_run
from consumers.errors import ConsumerStops, TopicsUnfit
from consumers.finding import FoundSink, UnfitSink, find, names
from consumers.health import Health, serving
from consumers.metrics import Metrics
from consumers.records import make_records_light
from consumers.settings import ConsumerSettings
from consumers.sink import SinkUnavailable
from schemas.kafka import KafkaSettings
from schemas.logs import configure_logging
from schemas.merchants import MerchantsFileError, load_merchants
from schemas.quiet import quieten, report_stray, report_uncaught

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from pydantic import SecretStr
    from pydantic_settings import BaseSettings

    from consumers.dry_run import Preview
    from consumers.erasing import Receipts

log = structlog.get_logger()

CHECK_FAILED = 1
USAGE = 2
_CHECK_S = 30.0
_LEAVE_S = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; return the exit code."""
    asked = _arguments(arguments)
    if asked.list:
        print("\n".join(names()))  # noqa: T201  # what was asked for
        return 0
    try:
        settings = ConsumerSettings()
        kafka_options = KafkaSettings().client_options()
        sink = find(asked.sink)
        destination, preview = _destination(sink, settings), _preview(sink, settings) if asked.dry_run else None
    except ValidationError as error:
        return _usage(_sentences(error, asked.sink))
    except (UnfitSink, MerchantsFileError) as error:
        return _usage(str(error))
    except OSError as error:
        return _usage(f"a file named in KAFKA_...: {error}")
    configure_logging(destination.name, settings.log_level)
    quieten()
    sys.excepthook = report_uncaught
    collect_seldom()
    make_records_light()
    if preview:
        work = _dry_run(preview, destination, kafka_options)
    else:
        work = _check(destination, kafka_options) if asked.check else _run(destination, settings, kafka_options)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(work)
        _leave_within(_LEAVE_S, code)
        return code


def _leave_within(limit_s: float, code: int) -> None:
    """End the process by then: Python waits for threads, and a sink's may be stuck at its destination."""
    timer = threading.Timer(limit_s, os._exit, (code,))
    timer.daemon = True
    timer.start()


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m consumers", description="Run one consumer of dial-results.")
    parser.add_argument("sink", nargs="?", metavar="SINK", help=f"one of: {', '.join(names())}")
    parser.add_argument("--check", action="store_true", help="look at settings, topics and destination, then end")
    parser.add_argument("--dry-run", action="store_true", help="print, masked, what would be sent; commit nothing")
    parser.add_argument("--list", action="store_true", help="name the sinks, then end")
    asked = parser.parse_args(arguments)
    if not asked.list and asked.sink is None:
        parser.error("which sink? --list names them")
    return asked


def _destination(sink: FoundSink, settings: ConsumerSettings) -> Destination:
    sink_settings = sink.settings()
    merchants = load_merchants(settings.merchants_file) if settings.merchants_file else {}
    receipts = _receipts(settings.receipts_dsn, sink, sink_settings)
    return Destination(sink.name, lambda: sink.connect(sink_settings, merchants), sink.batching, _version(), receipts)


def _receipts(dsn: SecretStr | None, sink: FoundSink, sink_settings: BaseSettings) -> Receipts | None:
    address = dsn.get_secret_value() if dsn else sink.database(sink_settings)
    if address is None:
        return None
    from consumers.receipts import PostgresReceipts  # noqa: PLC0415  # asyncpg is not part of every installation

    return PostgresReceipts(address, sink.name)


def _preview(sink: FoundSink, settings: ConsumerSettings) -> AbstractAsyncContextManager[Preview]:
    if sink.preview is None:
        raise UnfitSink(f"{sink.name} has no dry run")
    merchants = load_merchants(settings.merchants_file) if settings.merchants_file else {}
    return sink.preview(sink.settings(), merchants)


def _version() -> str:
    try:
        return version("dial-results")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


async def _run(destination: Destination, settings: ConsumerSettings, kafka_options: Mapping[str, Any]) -> int:
    asyncio.get_running_loop().set_exception_handler(report_stray)
    metrics = Metrics(destination.name)
    consumer = Consumer(destination, settings, kafka_options, metrics)
    try:
        async with AsyncExitStack() as stack:
            stop = stack.enter_context(_signals())  # first: who sees it healthy may stop it in good order
            health = serving(Health(consumer.status, metrics), settings.admin_host, settings.admin_port)
            try:
                await stack.enter_async_context(health)
            except OSError as error:
                return _usage(f"CONSUMER_ADMIN_HOST and CONSUMER_ADMIN_PORT: {error.strerror}")
            await consumer.run(stop)
    except ConsumerStops as reason:
        log.error("consumer_stops", reason=str(reason), exit_code=reason.exit_code)  # noqa: TRY400  # it says it all
        return reason.exit_code
    log.info("consumer_stopped")
    return 0


def collect_seldom() -> None:
    """Let the garbage collector look at new objects by the 100,000, and not at what stays: a quarter less CPU.

    A batch of decoded results is that many objects, none of which is in a cycle.
    """
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)


async def _check(destination: Destination, kafka_options: Mapping[str, Any]) -> int:
    """Look at the topics, then connect to the destination; say what is wrong with the first that fails."""
    try:
        async with asyncio.timeout(_CHECK_S):
            await broker.check_topics(kafka_options, destination.name)
            async with destination.connect():
                pass
    except (KafkaError, TimeoutError) as error:
        return _failed(f"Kafka is not reached: {type(error).__name__}")
    except TopicsUnfit as error:
        return _failed(str(error))
    except SinkUnavailable as error:
        return _failed(f"the destination is away: {error.reason}")
    print(f"{destination.name}: settings, topics and destination are fine")  # noqa: T201  # what was asked for
    return 0


async def _dry_run(
    preview: AbstractAsyncContextManager[Preview], destination: Destination, kafka_options: Mapping[str, Any]
) -> int:
    try:
        await dry_run(preview, kafka_options, destination.name, destination.batching.max_events)
    except (KafkaError, TimeoutError) as error:
        return _failed(f"Kafka is not reached: {type(error).__name__}")
    except SinkUnavailable as error:
        return _failed(f"the destination is away: {error.reason}")
    return 0


@contextmanager
def _signals() -> Iterator[asyncio.Event]:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _usage(message: str) -> int:
    print(f"consumers: {message}", file=sys.stderr)  # noqa: T201  # logging may not be set up yet
    return USAGE


def _failed(message: str) -> int:
    print(f"consumers: {message}", file=sys.stderr)  # noqa: T201  # the answer to --check
    return CHECK_FAILED


def _sentences(error: ValidationError, sink: str) -> str:
    """Say which settings are wrong and how; their values may be secrets."""
    prefix = {"ConsumerSettings": "CONSUMER_", "KafkaSettings": "KAFKA_"}.get(error.title, f"{sink.upper()}_")
    problems = error.errors(include_input=False, include_url=False)
    return "; ".join(f"{prefix}{'_'.join(map(str, problem['loc'])).upper()}: {problem['msg']}" for problem in problems)


if __name__ == "__main__":
    sys.exit(main())
