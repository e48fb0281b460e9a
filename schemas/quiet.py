"""What our logs say of other people's failures: what kind and where, never their text, which may hold data.

aiohttp writes the request line of a malformed request, which holds the token, and asyncio whole exceptions. aiokafka
writes a line for every try of an outage. Our own lines say what matters of these.
"""

from __future__ import annotations

import logging
import time
import traceback
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import TracebackType

log = structlog.get_logger()

_REPEAT_S = 60.0
_MOST_TEMPLATES = 1_000  # templates are few; whatever they are, this has a bound
_NO_TEXT = ("asyncio", "asyncpg.pool", "aiohttp.access", "aiohttp.internal", "aiohttp.server", "aiohttp.web")


def where(error: BaseException) -> dict[str, str]:
    """Return an exception's type and the line that raised it, for a log line: its text may hold anything."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"
    return {"error": type(error).__name__, "raised_at": place}


class NoText(logging.Filter):
    """Leaves of a record that there was one, its exception's type and place."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        said = where(error) if error else {}
        record.msg = f"{record.name} reported a problem" + "".join(f" {key}={value}" for key, value in said.items())
        record.args, record.exc_info, record.exc_text, record.stack_info = (), None, None, None
        return True


class OnceAMinute(logging.Filter):
    """Lets the same message through once a minute: the first says what is wrong, the others say it again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now, key = self._clock(), str(record.msg)
        if now - self._said.get(key, -_REPEAT_S) < _REPEAT_S:
            return False
        if len(self._said) > _MOST_TEMPLATES:
            self._said.clear()
        self._said[key] = now
        return True


def quieten() -> None:
    """Filter what aiokafka, aiohttp, asyncio and asyncpg say; once a process, after `configure_logging`.

    Handlers filter what a logger's children say too, loggers do not.
    """
    for name in _NO_TEXT:
        logging.getLogger(name).addFilter(NoText())
    seldom = OnceAMinute()
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: not record.name.startswith("aiokafka") or seldom.filter(record))


def report_stray(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Take an exception that nobody awaited; the event loop's exception handler."""
    error = context.get("exception")
    log.error("stray_exception", **(where(error) if isinstance(error, BaseException) else {}))


def report_uncaught(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """Take the exception that ends the process; `sys.excepthook`. Groups are told apart."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            report_uncaught(type(inner), inner, inner.__traceback__)
        return
    log.critical("process_ends", **where(error))
