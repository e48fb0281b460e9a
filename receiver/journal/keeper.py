"""The keeper: one thread that prepares the next segment and removes published ones, so that the writer never waits."""

import threading
from collections.abc import Callable

from receiver.journal.store import Store

_LONGEST_PAUSE_S = 60.0
_PAUSE_WHILE_FULL_S = 0.5  # nobody tells when another program frees room on the disk


class Keeper:
    """Tidies when poked, when an insurance ends, and while the journal is full."""

    def __init__(self, store: Store, broken: Callable[[BaseException | None], None]) -> None:
        self._store = store
        self._broken = broken
        self._poked = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="journal-keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def poke(self) -> None:
        """May be called from any thread."""
        self._poked.set()

    def stop(self, timeout_s: float) -> bool:
        """Return whether it ended in time. Blocks."""
        self._stopping = True
        self._poked.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        error: BaseException | None = None
        clean = False
        try:
            while not self._stopping:
                due_s = self._store.tidy()
                self._poked.wait(self._pause(due_s))
                self._poked.clear()
            clean = True
        except OSError as caught:
            error = caught
        finally:
            if not clean:
                self._broken(error)

    def _pause(self, due_s: float | None) -> float:
        longest = _PAUSE_WHILE_FULL_S if self._store.full else _LONGEST_PAUSE_S
        return longest if due_s is None else min(due_s, longest)
