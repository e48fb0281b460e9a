"""Waits until the sinks have caught up, and takes the last look only when nothing is on its way any more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from .clock import wait_real
from .places import PlaceAway
from .underway import journaled, lag

if TYPE_CHECKING:
    from collections.abc import Callable

    from .compare import Comparison, Verdict

_LOOK_EVERY_S = 0.5  # nobody tells us when a sink has written
_LOOK_SHARE = 0.5  # of the time goes to looking, at most: the sinks need it more


class Look(NamedTuple):
    """What was seen at one moment. `underway` counts what is between journal and sinks, None if nobody can say."""

    verdicts: list[Verdict]
    underway: int | None

    @property
    def good(self) -> bool:
        """Whether every place holds what it should."""
        return all(verdict.good for verdict in self.verdicts)

    @property
    def settled(self) -> bool:
        """Whether that is final."""
        return self.good and self.underway == 0


class Underway:
    """What is still between the journal and the sinks."""

    def __init__(self, receiver_admin_url: str, bootstrap_servers: str) -> None:
        self._receiver_admin_url = receiver_admin_url
        self._bootstrap_servers = bootstrap_servers

    async def count(self) -> int | None:
        """Return callbacks waiting in the journal and events not yet committed, together; None if one is away."""
        try:
            return await journaled(self._receiver_admin_url) + await lag(self._bootstrap_servers)
        except PlaceAway:
            return None


async def settle(
    comparison: Comparison,
    underway: Underway,
    patience_s: float,
    stopping: asyncio.Event,
    looked: Callable[[Look], None],
) -> Look:
    """Look until all is right and nothing is on its way, or nothing has moved for `patience_s`; return the last look.

    A result that is there once may still come a second time: that is why journal and lags have to be at 0, and why
    they are asked before the sinks are.
    """
    loop = asyncio.get_running_loop()
    best, deadline = Best(), loop.time() + patience_s
    while loop.time() < deadline:
        begun = loop.time()
        waiting = await underway.count()
        look = Look(await comparison.look(at_contacts=waiting == 0), waiting)
        looked(look)
        if look.settled:
            return look
        if best.improved_by(look):
            deadline = loop.time() + patience_s
        if await wait_real(stopping, max(_LOOK_EVERY_S, (loop.time() - begun) * _LOOK_SHARE)):
            break
    return Look(await comparison.look(at_contacts=True), await underway.count())


class Best:
    """The most that was ever right and the least that was ever under way: what moves on can only do so for so long."""

    def __init__(self) -> None:
        self._right = -1
        self._underway = float("inf")

    def improved_by(self, look: Look) -> bool:
        """Take a look into account; return whether it was better than all before."""
        right = sum(verdict.right for verdict in look.verdicts)
        waiting = float("inf") if look.underway is None else look.underway
        improved = right > self._right or waiting < self._underway
        self._right, self._underway = max(right, self._right), min(waiting, self._underway)
        return improved
