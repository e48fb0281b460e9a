"""Posts like Blu (source: callback-page.txt).

POST, `Content-type: application/json;charset=utf-8`, one record a call inside `records`. Only HTTP status 200 means
delivered; any other status, a redirect or a time-out is a failure and is retried every 5 minutes, 5 times at most.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import aiohttp

from .clock import wait_real
from .ledger import OK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .bodies import Callback
    from .clock import Clock
    from .ledger import Entry, Ledger, Status

RETRY_AFTER_S = 300
RETRIES = 5
CONTENT_TYPE = "application/json;charset=utf-8"
TIMED_OUT = "timed-out"
NO_ANSWER = "no-answer"  # refused, reset, or closed before the status line

_OPEN_CALLS = 100_000  # call tasks waiting for their next attempt; at 2 KB each some 200 MB


@dataclass(frozen=True, slots=True)
class Manner:
    """How to post. `rate` calls a real second, whatever the answers; `concurrency` posts under way at most.

    `unheard` is the share of callbacks whose first 200 gets lost on its way: Blu retries though it was delivered.
    How long Blu waits for an answer is not documented; 5 real seconds are on the strict side.
    """

    rate: float = 500.0
    concurrency: int = 64
    timeout_s: float = 5.0
    unheard: float = 0.0
    seed: int = 0


class Simulator:
    """Posts callbacks to `url` and writes down in the ledger what was promised. For one `run`.

    `settled` is called whenever a call task is delivered or given up. Once `stopping` is set no further attempt is
    made; what is under way ends within the time-out.
    """

    def __init__(
        self,
        url: str,
        ledger: Ledger,
        clock: Clock,
        manner: Manner,
        stopping: asyncio.Event,
        settled: Callable[[], None],
    ) -> None:
        self.latencies_s = array("d")  # of answered attempts, from the request to the answer's status line
        self.statuses: Counter[Status] = Counter()
        self.started = self.delivered = self.given_up = self.repeated = 0
        self.behind_s = 0.0  # how far the posting fell behind the rate, at most
        self._url, self._ledger, self._clock, self._manner = url, ledger, clock, manner
        self._stopping, self._settled = stopping, settled
        self._posting = asyncio.Semaphore(manner.concurrency)
        self._open_calls = asyncio.Semaphore(_OPEN_CALLS)
        self._random = Random(manner.seed)  # noqa: S311  # which answers get lost, no secret

    async def run(self, callbacks: Iterable[Callback]) -> None:
        """Post all callbacks at the rate, with their retries; return when each is delivered or given up."""
        async with self._session() as session, asyncio.TaskGroup() as calls:
            begun = asyncio.get_running_loop().time()
            for number, callback in enumerate(callbacks):
                await self._open_calls.acquire()
                if await self._is_due(begun + number / self._manner.rate):
                    return
                self.started += 1
                calls.create_task(self._call(session, callback))

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the semaphore bounds, so that waiting for it is in no latency
            timeout=aiohttp.ClientTimeout(total=self._manner.timeout_s),
            headers={"Content-type": CONTENT_TYPE},
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),  # Blu documents no other header
        )

    async def _is_due(self, due: float) -> bool:
        """Wait for the moment of a call, whatever became of the calls before; return True when stopped."""
        behind = asyncio.get_running_loop().time() - due
        self.behind_s = max(self.behind_s, behind)
        return await wait_real(self._stopping, max(0.0, -behind))

    async def _call(self, session: aiohttp.ClientSession, callback: Callback) -> None:
        """Make one call task: the first attempt and its retries."""
        entry, unheard, delivered = self._ledger.call(callback), self._unheard(), False
        for attempt in range(1 + RETRIES):
            if attempt and await self._clock.wait(self._stopping, RETRY_AFTER_S):
                break
            if await self._post(session, entry, callback.body) == OK:
                delivered = True
                if unheard == 0:
                    break
                unheard -= 1
                self.repeated += 1
        self._settle(delivered=delivered)

    def _unheard(self) -> int:
        """Choose how many 200s of a callback Blu does not hear: rarely more than one."""
        number = 0
        while number < RETRIES and self._random.random() < self._manner.unheard:
            number += 1
        return number

    def _settle(self, *, delivered: bool) -> None:
        self.delivered += delivered
        self.given_up += not delivered
        self._open_calls.release()
        self._settled()

    async def _post(self, session: aiohttp.ClientSession, entry: Entry, body: bytes) -> Status:
        async with self._posting:
            begun = asyncio.get_running_loop().time()
            status = await self._status(session, body)
            seconds = asyncio.get_running_loop().time() - begun
        if isinstance(status, int):
            self.latencies_s.append(seconds)
        self.statuses[status] += 1
        self._ledger.attempt(entry, status, seconds)
        return status

    async def _status(self, session: aiohttp.ClientSession, body: bytes) -> Status:
        try:
            async with session.post(self._url, data=body, allow_redirects=False) as answer:
                return answer.status
        except TimeoutError:
            return TIMED_OUT
        except (aiohttp.ClientError, OSError):
            return NO_ANSWER
