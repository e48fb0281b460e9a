"""What is answered, byte for byte. Both lanes, and every error, answer from here and from nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING

from receiver import errors
from receiver.journal import JournalError, JournalFailed, JournalFull, JournalLocked, JournalUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

# Blu comes again after 5 minutes whatever we say; a proxy in between may go by it.
_RETRY_AFTER = ("Retry-After", "60")


@dataclass(frozen=True, eq=False)  # the few there are tell apart by identity: `_rendered` looks one up per answer
class Answer:
    """One answer. `cause` names it in metrics and logs; `closes` ends the connection behind it."""

    status: int
    cause: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"
    closes: bool = False
    cuts: bool = False
    """Close at once, without reading what the sender has still to say."""
    retried: bool = False
    """Blu's next try may be taken, so the clock of the retry window runs."""


def _refusal(
    status: HTTPStatus, cause: str, *, closes: bool = False, cuts: bool = False, retried: bool = False
) -> Answer:
    body = b'{"code":%d,"message":"%b"}' % (status, status.phrase.lower().encode())
    return Answer(
        status=status,
        cause=cause,
        body=body,
        headers=(_RETRY_AFTER,) if status == HTTPStatus.SERVICE_UNAVAILABLE else (),
        closes=closes or cuts,
        cuts=cuts,
        retried=retried,
    )


def _unavailable(cause: str) -> Answer:
    return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, cause, retried=True)


ACKNOWLEDGED = Answer(HTTPStatus.OK, "", b'{"code":200,"message":"success"}')
BAD_REQUEST = _refusal(HTTPStatus.BAD_REQUEST, "bad-request", closes=True)
BUG = _unavailable("internal")  # Blu comes again, perhaps to a mended release

ANSWERS: Mapping[type[Exception], Answer] = MappingProxyType(
    {
        errors.NotFound: _refusal(HTTPStatus.NOT_FOUND, "not-found"),
        errors.BodyTooLarge: _refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", closes=True),
        errors.BodyTooSlow: _refusal(HTTPStatus.REQUEST_TIMEOUT, "too-slow", cuts=True, retried=True),
        errors.BodyBroken: _refusal(HTTPStatus.BAD_REQUEST, "broken", closes=True, retried=True),
        errors.Disconnected: _refusal(HTTPStatus.BAD_REQUEST, "disconnected", closes=True, retried=True),
        errors.Overloaded: _unavailable("overloaded"),
        JournalFull: _unavailable("journal-full"),
        JournalUnavailable: _unavailable("journal-slow"),
        JournalFailed: _unavailable("journal-failed"),
        JournalLocked: _unavailable("journal-locked"),
    }
)


def answer_for(error: errors.Refused | JournalError) -> Answer:
    """Return the one answer for this error. Raises KeyError for an error that no test has seen."""
    return ANSWERS[type(error)]


def render(answer: Answer, now_s: float, *, close: bool = False, head: bool = False) -> bytes:
    """Return the whole HTTP/1.1 response; `head` leaves out the body, as a HEAD request has to be answered."""
    return _rendered(answer, int(now_s), close or answer.closes, head)


@lru_cache(maxsize=256)  # one entry a second and answer: the answers are few
def _rendered(answer: Answer, now_s: int, close: bool, head: bool) -> bytes:
    status = HTTPStatus(answer.status)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        f"Date: {formatdate(now_s, usegmt=True)}",
        *(f"{name}: {value}" for name, value in answer.headers),
        *(("Connection: close",) if close else ()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if head else answer.body)
