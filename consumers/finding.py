"""Finds sinks: every module or package under `consumers/sinks` is one, by its name."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from consumers import sinks
from consumers.sink import Batching, Sink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from pydantic_settings import BaseSettings

    from consumers.dry_run import Preview
    from schemas.merchants import Merchant


class UnfitSink(Exception):  # noqa: N818  # what it is
    """The module cannot be used as a sink; the message says what it lacks."""


@dataclass(frozen=True)
class FoundSink:
    """A sink's module: what `consumers/sink.py` says that it has."""

    name: str
    settings: type[BaseSettings]
    connect: Callable[[Any, Mapping[str, Merchant]], AbstractAsyncContextManager[Sink]]
    event_ids: Callable[[Any], Awaitable[list[str]]]
    batching: Batching
    database: Callable[[Any], str | None] = lambda _settings: None
    """The address of the sink's own PostgreSQL, where it has one: receipts of erasures may go there."""
    preview: Callable[[Any, Mapping[str, Merchant]], AbstractAsyncContextManager[Preview]] | None = None
    """For `--dry-run`; None where the sink has none."""


def names() -> list[str]:
    """Return the names of all sinks, without importing any."""
    return sorted(module.name for module in pkgutil.iter_modules(sinks.__path__) if not module.name.startswith("_"))


def find(name: str) -> FoundSink:
    """Import one sink.

    Raises:
        UnfitSink: there is none of that name, a package that it needs is not installed, or it lacks a part.
    """
    if name not in names():
        raise UnfitSink(f"there is no sink {name!r}; there are: {', '.join(names())}")
    try:
        module = importlib.import_module(f"{sinks.__name__}.{name}")
        optional = {part: getattr(module, part) for part in ("database", "preview") if hasattr(module, part)}
        batching = getattr(module, "BATCHING", Batching())
        return FoundSink(name, module.Settings, module.connect, module.event_ids, batching, **optional)
    except ModuleNotFoundError as error:
        raise UnfitSink(f"{name} needs {error.name}: pip install 'dial-results[{name}]'") from error
    except AttributeError as error:
        raise UnfitSink(f"consumers/sinks/{name} lacks {error.name}: consumers/sink.py says what a sink has") from error
