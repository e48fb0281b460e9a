"""Why a callback is not answered 200. The journal's own errors stand beside these: `receiver/journal/errors.py`.

Refused
├── NotFound       wrong token, path or method: which of them is nobody's business
├── BodyTooLarge   over the cap
├── BodyTooSlow    not there in time
├── BodyBroken     its framing is not HTTP
├── Disconnected   the sender went away before its body was there
└── Overloaded     too many callbacks under way
"""

from __future__ import annotations


class Refused(Exception):  # noqa: N818  # an outcome, with an answer of its own
    """The callback is not taken; `answers.ANSWERS` says what is answered."""


class NotFound(Refused):
    """Wrong token, path or method."""


class BodyTooLarge(Refused):
    """The body is over the cap: the one body that a sender with a good token can lose."""


class BodyTooSlow(Refused):
    """The body did not arrive in time."""


class BodyBroken(Refused):
    """The body's framing (chunks) is not HTTP."""


class Disconnected(Refused):
    """The sender closed the connection before its body was there."""


class Overloaded(Refused):
    """Too many callbacks are under way."""
