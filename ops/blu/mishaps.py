"""What goes wrong on Blu's side: calls that are never posted, and bodies in another encoding. Chosen without dice."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .ledger import BY_QUERY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .bodies import Callback
    from .ledger import Ledger
    from .queries import Queries

ENCODING = "gbk"


@dataclass(slots=True)
class Mishaps:
    """Shares of all calls; the same for the same seed. Counts what befell.

    What is lost is lost for a contact in a task as a whole, as where Blu never got round to it.
    """

    lost: float = 0.0
    garbled: float = 0.0
    seed: int = 0
    times_lost: int = 0
    times_garbled: int = 0

    def befall(self, callbacks: Iterable[Callback], ledger: Ledger, queries: Queries | None) -> Iterator[Callback]:
        """Yield what is posted. `queries` knows all of it, and the ledger expects what only a query can tell."""
        due = 0.0
        for callback in callbacks:
            if queries is not None:
                queries.add(callback)
            if self._is_lost(callback):
                self.times_lost += 1
                ledger.attempt(ledger.call(callback), BY_QUERY, 0.0)
                continue
            due += self.garbled
            body = garbled(callback.body) if due >= 1 else None
            if body is not None:
                due -= 1
                self.times_garbled += 1
            yield callback if body is None else replace(callback, body=body)

    def _is_lost(self, callback: Callback) -> bool:
        name = f"{self.seed} {callback.task_id} {callback.record_id}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) < self.lost * 2**48


def garbled(body: bytes) -> bytes | None:
    """Write a body in GBK, None where it cannot be, or where it would be good UTF-8 all the same."""
    text = body.decode()
    try:
        other = text.encode(ENCODING)
        if other.decode(ENCODING) != text:
            return None
    except UnicodeError:
        return None
    try:
        other.decode()
    except UnicodeDecodeError:
        return other
    return None
