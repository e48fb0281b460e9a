"""What the fast lane takes callbacks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.answers import Answer
    from receiver.door import Door
    from receiver.tokens import ActiveToken


class Callbacks(Protocol):
    """What both lanes share."""

    @property
    def door(self) -> Door | None:
        """Return what a sender has to bring besides the token."""

    @property
    def crowded(self) -> bool:
        """Tell whether too many are under way; the ordinary lane says so to the sender."""

    def match(self, method: str, path: str) -> ActiveToken | None:
        """Return the token of this request if it is a callback, or None: the ordinary lane answers."""

    def store(self, token: ActiveToken, body: bytes, done: Callable[[Answer], None]) -> None:
        """Store the body; `done` is called once, now or when it is on disk."""


class NoCallbacks:
    """Takes none: for a server, or an operator, that wants the ordinary lane alone. The bound on headers holds."""

    door = None
    crowded = False

    def match(self, _method: str, _path: str) -> None:
        """Hand everything on."""

    def store(self, token: ActiveToken, body: bytes, done: Callable[[Answer], None]) -> None:
        """Is not called: nothing is matched."""
        raise NotImplementedError
