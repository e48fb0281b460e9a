"""The way in: the one short path that ends in 200, and it leads over the journal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from receiver.answers import ACKNOWLEDGED, BUG, Answer, answer_for
from receiver.body import read_body
from receiver.connection import prove
from receiver.errors import BodyTooLarge, NotFound, Overloaded, Refused
from receiver.journal import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.web import BaseRequest

    from receiver.access_log import AccessLog
    from receiver.ack_wait import AckWait
    from receiver.body import BodyLimits
    from receiver.counts import Counts
    from receiver.door import Door
    from receiver.journal import Journal
    from receiver.retry_window import RetryWindow
    from receiver.tokens import ActiveToken, Tokens


class Callbacks:
    """Takes callbacks. `settle` is where every one of them ends, whichever lane it took."""

    def __init__(
        self,
        tokens: Tokens,
        journal: Journal,
        counts: Counts,
        window: RetryWindow,
        access_log: AccessLog,
        body_limits: BodyLimits,
        in_flight_cap: int,
        door: Door | None = None,
        ack_wait: AckWait | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens = tokens
        self._journal = journal
        self._counts = counts
        self._window = window
        self._access_log = access_log
        self._body_limits = body_limits
        self._in_flight_cap = in_flight_cap
        self.in_flight = 0
        self.door = door
        self._ack_wait = ack_wait
        self._clock = clock

    async def receive_callback(self, request: BaseRequest) -> Answer:
        """Return ACKNOWLEDGED once the callback is on disk, and something else in every other case."""
        started_s = self._clock()
        token, body_bytes = None, 0
        self.in_flight += 1
        try:
            token = self._match(request)
            self._admit()
            body = await read_body(request, self._body_limits)
            body_bytes = len(body)
            sequence = await self._journal.append(token.merchant, body, time.time_ns() // 1_000_000)
            if self._ack_wait is not None:
                await self._ack_wait.passed(sequence)
        except (Refused, JournalError) as error:
            return self.settle(token, body_bytes, started_s, error)
        finally:
            self.in_flight -= 1
        return self.settle(token, body_bytes, started_s, None)

    @property
    def crowded(self) -> bool:
        """Tell whether as many are under way as may be."""
        return self.in_flight >= self._in_flight_cap

    def match(self, method: str, path: str) -> ActiveToken | None:
        """Return the token of this request if it is a callback: the fast lane's. None: the ordinary lane answers."""
        return self._tokens.match(method, path)

    def store(self, token: ActiveToken, body: bytes, done: Callable[[Answer], None]) -> None:
        """Give the body to the journal; `done` gets ACKNOWLEDGED once it is on disk, else the refusal. Once, always."""
        self.in_flight += 1
        started_s = self._clock()
        token.last_seen_s = now_s = time.time()
        body_bytes = len(body)

        def settled(outcome: int | JournalError | Refused) -> None:
            self.in_flight -= 1
            error = None if isinstance(outcome, int) else outcome
            done(self.settle(token, body_bytes, started_s, error))

        if body_bytes > self._body_limits.cap_bytes:
            settled(BodyTooLarge())
            return
        try:
            stored = settled if self._ack_wait is None else self._ack_wait.behind(settled)
            self._journal.append_nowait(token.merchant, body, int(now_s * 1_000), stored)
        except JournalError as error:
            settled(error)

    def settle(
        self, token: ActiveToken | None, body_bytes: int, started_s: float, error: Refused | JournalError | None
    ) -> Answer:
        """Count what became of a callback, log it, and return its answer; `error` None means: it is on disk."""
        seconds = self._clock() - started_s
        if token is None:
            return self._turn_away(answer_for(error or NotFound()), seconds)
        traffic = self._counts.traffic[token.merchant]
        traffic.received += 1
        traffic.body_bytes += body_bytes
        if error is not None:
            return self._refuse(answer_for(error), token.merchant, body_bytes, seconds)
        traffic.acknowledged += 1
        self._counts.latencies.observe(seconds)
        self._access_log.acknowledged(token.merchant, body_bytes, seconds)
        return ACKNOWLEDGED

    def on_error(self, answer: Answer) -> None:
        """Count what the server had to answer by itself: no HTTP, or a bug of ours."""
        if answer is BUG:
            self._counts.refused[answer.cause] += 1
            self._window.refused()
        else:
            self._counts.bad_requests += 1
        self._access_log.refused(answer, None, 0, 0.0)

    def _match(self, request: BaseRequest) -> ActiveToken:
        path = request.raw_path
        if not path.startswith("/"):  # a proxy's form, `POST http://host/path`
            path = request.rel_url.raw_path
        token = self._tokens.match(request.method, path)
        turned_away = self.door.refuses(request.headers, request.remote) if self.door is not None else None
        if token is None:
            raise NotFound
        if turned_away is not None:
            self._counts.turned_away[turned_away] += 1
            raise NotFound
        prove(request)
        token.last_seen_s = time.time()
        return token

    def _admit(self) -> None:
        if self.in_flight > self._in_flight_cap:
            raise Overloaded

    def _turn_away(self, answer: Answer, seconds: float) -> Answer:
        self._counts.not_found += 1
        self._access_log.refused(answer, None, 0, seconds)
        return answer

    def _refuse(self, answer: Answer, merchant: str, body_bytes: int, seconds: float) -> Answer:
        self._counts.refused[answer.cause] += 1
        if answer.retried:
            self._window.refused()
        self._access_log.refused(answer, merchant, body_bytes, seconds)
        return answer
