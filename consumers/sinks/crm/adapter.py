"""An adapter: a batch of items in, one outcome an item out. What a vendor adds to it is a dialect, one file each."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from .answers import Unclear
from .hubspot import HubSpot
from .line import open_line
from .metrics import UNAUTHORISED as UNAUTHORISED_GAUGE
from .outcome import UNAUTHORISED, Ok, Outcome, Reject, Retry
from .salesforce import Salesforce
from .webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from .answers import Answer
    from .line import Line, Request
    from .mapping import Item
    from .settings import Settings


NO_CALL = "the contact: no call is known that erases it there ([webhook.erase] of the mapping file), do it by hand"


class Dialect(Protocol):
    """How one vendor wants to be asked, and what its answers mean. It does no input or output."""

    max_items: int

    def request(self, items: Sequence[Item]) -> Request:
        """Make the call that upserts at most `max_items` items, no contact twice.

        Making it again, with the same items or some of them, must be harmless at the destination.
        """

    def read(self, answer: Answer, items: Sequence[Item]) -> list[Outcome | Unclear]:
        """Return one verdict an item, in order, by what the answer's body says; never by the status alone.

        Reasons and codes are short and typed: nothing of the answer's free text.
        """

    def find(self, contact: str) -> Request | None:
        """Make the call that asks for the CRM's own id of a contact; None where erasing needs none."""

    def found(self, answer: Answer) -> str | Retry | None:
        """Return that id; None: there is no such contact."""

    def erasure(self, contact: str, remote_id: str | None) -> Request | None:
        """Make the call that erases one contact; None where there is none."""

    def erased(self, answer: Answer) -> Outcome | Unclear:
        """Return what became of it; a contact that is not there is as good as erased."""


class Adapter:
    """One CRM. It raises nothing but cancellation and bugs."""

    def __init__(self, dialect: Dialect, line: Line) -> None:
        self.max_items = dialect.max_items
        self._dialect = dialect
        self._line = line

    async def upsert(self, items: Sequence[Item], give_up_at: float) -> list[Outcome]:
        """Send at most `max_items` items, no contact twice; start no call after `give_up_at` (`time.monotonic`).

        Where the CRM refuses a batch without saying for which item's sake, the batch is halved until it does.
        """
        answer = await self._line.call(lambda: self._dialect.request(items), give_up_at)
        if isinstance(answer, Retry):
            self._note([answer])
            return [answer] * len(items)
        verdicts = dict(zip(items_by_id(items), self._dialect.read(answer, items), strict=True))
        self._note(verdicts.values())
        unclear = [one for one in items if isinstance(verdicts[one.event_id], Unclear)]
        verdicts |= await self._clear(unclear, items, verdicts, give_up_at)
        return [verdict for verdict in verdicts.values() if not isinstance(verdict, Unclear)]

    async def erase(self, contact: str, remote_id: str | None, give_up_at: float) -> str | Retry:
        """Erase one contact. Returns what stays there, in a sentence; "": nothing."""
        if remote_id is None and (question := self._dialect.find(contact)):
            answer = await self._line.call(lambda: question, give_up_at)
            known = answer if isinstance(answer, Retry) else self._dialect.found(answer)
            if not isinstance(known, str):
                return known or ""
            remote_id = known
        call = self._dialect.erasure(contact, remote_id)
        if call is None:
            return NO_CALL
        answer = await self._line.call(lambda: call, give_up_at)
        if isinstance(answer, Retry):
            return answer
        verdict = self._dialect.erased(answer)
        outcome = verdict.alone if isinstance(verdict, Unclear) else verdict
        self._note([outcome])
        if isinstance(outcome, Reject):
            return f"the contact: the CRM refuses to erase it ({outcome.code}), do it there by hand"
        return outcome if isinstance(outcome, Retry) else ""

    async def _clear(
        self, unclear: Sequence[Item], items: Sequence[Item], verdicts: dict[str, Outcome | Unclear], give_up_at: float
    ) -> dict[str, Outcome]:
        """Find out what is the matter with the unclear ones."""
        if len(items) == 1:
            return {key: verdict.alone for key, verdict in verdicts.items() if isinstance(verdict, Unclear)}
        cleared: dict[str, Outcome] = {}
        middle = len(unclear) // 2 if len(unclear) == len(items) else len(unclear)
        for part in (unclear[:middle], unclear[middle:]):
            if part:
                cleared |= zip(items_by_id(part), await self.upsert(part, give_up_at), strict=True)
        return cleared

    def _note(self, verdicts: Iterable[Outcome | Unclear]) -> None:
        """Leave the CRM alone for as long as it asked; raise or lower the alarm about our token."""
        retries = [verdict for verdict in verdicts if isinstance(verdict, Retry)]
        self._line.leave_alone(max((retry.after_s or 0.0 for retry in retries), default=0.0))
        if any(retry.reason == UNAUTHORISED for retry in retries):
            UNAUTHORISED_GAUGE.set(1)
        elif any(isinstance(verdict, Ok) for verdict in verdicts):
            UNAUTHORISED_GAUGE.set(0)


DIALECTS: dict[str, Callable[[Settings], Dialect]] = {
    "hubspot": HubSpot,
    "salesforce": Salesforce,
    "webhook": Webhook,
}


@asynccontextmanager
async def open_adapter(settings: Settings) -> AsyncIterator[Adapter]:
    """Make the adapter of the vendor that the settings name. No connection is opened before the first call."""
    async with open_line(settings) as line:
        yield Adapter(DIALECTS[settings.vendor](settings), line)


def items_by_id(items: Sequence[Item]) -> list[str]:
    """Return the items' event ids, in order."""
    return [one.event_id for one in items]
