"""Log lines of every process of ours: one JSON object a line, on standard error."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import orjson
import structlog


def configure_logging(process: str, level: str) -> None:
    """Send structlog's and the standard library's lines to standard error as JSON, each with the process's name."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _naming(process),
        _exception_without_text,
    ]
    renderer = structlog.processors.JSONRenderer(serializer=lambda line, **_: orjson.dumps(line, default=str).decode())
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    logging.basicConfig(handlers=[handler], level=threshold, force=True)
    for name in ("aiokafka", "asyncio", "aiohttp"):  # at DEBUG they print keys, values and addresses
        logging.getLogger(name).setLevel(max(threshold, logging.INFO))


def _exception_without_text(_logger: object, _method: str, line: dict[str, Any]) -> dict[str, Any]:
    """Write an exception as its type and where it came from; its text may quote a row, a body or an address."""
    given = line.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else None
    if given is True:
        error = sys.exc_info()[1]
    if error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"
        line |= {"error": type(error).__name__, "raised_at": place}
    return line


def _naming(process: str) -> Any:  # noqa: ANN401  # structlog's own type for a processor is as wide
    def name(_logger: object, _method: str, line: dict[str, Any]) -> dict[str, Any]:
        return line | {"process": process}

    return name
