"""One line a request: whose, how large, how long. Never the path, which is the token, and never the body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.answers import Answer

log = structlog.get_logger()

_LINES_A_SECOND = 20  # of refused requests: a scanner, or a full disk at full load, shall not fill the log's disk too


class AccessLog:
    """Writes all requests, or the refused ones only and not more than a few a second; those left out are counted."""

    def __init__(self, which: Literal["all", "refused"], clock: Callable[[], float]) -> None:
        """`clock` returns seconds and never goes back."""
        self._all = which == "all"
        self._clock = clock
        self._second = -1
        self._lines = 0
        self._left_out = 0

    def acknowledged(self, merchant: str, body_bytes: int, seconds: float) -> None:
        """Note a callback that was answered 200."""
        if self._all:
            log.info("request", route="callback", merchant=merchant, bytes=body_bytes, ms=_ms(seconds), status=200)

    def refused(self, answer: Answer, merchant: str | None, body_bytes: int, seconds: float) -> None:
        """Note any other answer; `merchant` is None where the token was not good."""
        if self._all or self._may_write():
            log.info(
                "request",
                route="callback" if merchant else "none",
                merchant=merchant,
                bytes=body_bytes,
                ms=_ms(seconds),
                status=int(answer.status),
                cause=answer.cause,
                **self._gap(),
            )

    def _may_write(self) -> bool:
        second = int(self._clock())
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= _LINES_A_SECOND:
            return True
        self._left_out += 1
        return False

    def _gap(self) -> dict[str, int]:
        left_out, self._left_out = self._left_out, 0
        return {"lines_left_out": left_out} if left_out else {}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
