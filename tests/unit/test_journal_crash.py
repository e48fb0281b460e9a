"""Any order of operations, with the power going anywhere, against a plain model of what was promised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from receiver.journal.errors import JournalFull
from receiver.journal.frame import Entry, JournaledCallback
from receiver.journal.limits import JournalLimits
from receiver.journal.store import Store
from tests.unit.journal_disks import ForgetfulDisk, PowerCut

FOLDER = Path("/journal")
LIMITS = JournalLimits(segment_bytes=4096, quota_bytes=6 * 4096, segment_age_s=300, insurance_s=900, disk_share=1)

entries = st.builds(
    Entry,
    received_ms=st.integers(0, 2**45),
    merchant=st.sampled_from([b"demo", b"acme"]),
    body=st.one_of(st.binary(max_size=40), st.integers(100, 1500).map(lambda size: b"DRJ1" * (size // 4))),
)
groups = st.lists(entries, min_size=1, max_size=5)
fuses = st.one_of(st.none(), st.none(), st.integers(0, 12))


class JournalMachine(RuleBasedStateMachine):
    """`promised` is what was acknowledged; `uncertain` what the power cut in the middle of its commit."""

    @initialize(seed=st.integers(0, 2**32))
    def start(self, seed: int) -> None:
        self.now = 0.0
        self.promised: dict[int, Entry] = {}
        self.uncertain: list[Entry] = []
        self.marked = 0
        self.marking = 0
        self.owners: dict[int, object] = {}  # segment number -> the segment that held acknowledged callbacks
        self.disk = ForgetfulDisk(Random(seed))
        self.store = self.opened()

    def opened(self) -> Store:
        return Store(FOLDER, LIMITS, self.disk, lambda: self.now)

    def attempt(self, operation: Callable[[], None], fuse: int | None, recovery_fuses: list[int]) -> None:
        self.disk.fuse = fuse
        try:
            operation()
            self.disk.fuse = None
        except PowerCut:
            self.recover(recovery_fuses)

    def recover(self, recovery_fuses: list[int]) -> None:
        for fuse in [*recovery_fuses, None]:
            self.disk.crash()
            self.disk.fuse = fuse
            try:
                self.store = self.opened()
            except PowerCut:
                continue
            self.disk.fuse = None
            break
        self.check_recovered()

    def check_recovered(self) -> None:
        assert self.store.published in {self.marked, self.marking}
        self.marked = self.marking = self.store.published
        assert (self.store.damages.size_bytes, self.store.damages.missing) == (0, 0), "a power cut is no damage"
        last = max(self.promised, default=0)
        if self.store.last != last:
            assert self.store.last == last + len(self.uncertain), "a frame is there wholly or not at all"
            self.promised |= dict(enumerate(self.uncertain, last + 1))
        self.uncertain = []

    @rule(group=groups, fuse=fuses, recovery_fuses=st.lists(st.integers(0, 8), max_size=2))
    def append(self, group: list[Entry], fuse: int | None, recovery_fuses: list[int]) -> None:
        self.attempt(lambda: self.append_now(group), fuse, recovery_fuses)

    def append_now(self, group: list[Entry]) -> None:
        self.uncertain = group
        try:
            first = self.store.commit(group)
        except JournalFull:
            held = self.store._shelf.listed()
            assert held, "an empty journal is never full"
            assert all(segment.last > self.store.published for segment in held), "insurance never causes a refusal"
        else:
            assert first == max(self.promised, default=0) + 1
            self.promised |= dict(enumerate(group, first))
            segment = self.store._shelf.listed()[-1].identity
            assert self.owners.setdefault(segment.number, segment) == segment, "a number was used again"
        self.uncertain = []

    @rule(groups=st.integers(1, 12))
    def append_much(self, groups: int) -> None:
        for n in range(groups):
            self.append_now([Entry(n, b"demo", bytes([n]) * 1500), Entry(n, b"demo", b"")])

    @precondition(lambda self: self.store.last > self.store.published)
    @rule(part=st.floats(0, 1), fuse=fuses, recovery_fuses=st.lists(st.integers(0, 8), max_size=2))
    def publish(self, part: float, fuse: int | None, recovery_fuses: list[int]) -> None:
        def operation() -> None:
            waiting = self.store.last - self.store.published
            self.marking = self.store.published + 1 + int(part * (waiting - 1))
            self.store.mark_published(self.marking)
            self.marked = self.marking

        self.attempt(operation, fuse, recovery_fuses)

    @rule(
        passed=st.sampled_from([1.0, 301.0, 901.0]), fuse=fuses, recovery_fuses=st.lists(st.integers(0, 8), max_size=2)
    )
    def roll_and_expire(self, passed: float, fuse: int | None, recovery_fuses: list[int]) -> None:
        def operation() -> None:
            self.now += passed
            self.store.roll_aged()
            self.store.tidy()

        self.attempt(operation, fuse, recovery_fuses)

    @rule(fuse=fuses, recovery_fuses=st.lists(st.integers(0, 8), max_size=2))
    def close_and_open(self, fuse: int | None, recovery_fuses: list[int]) -> None:
        def operation() -> None:
            self.store.close()
            self.store = self.opened()
            self.check_recovered()

        self.attempt(operation, fuse, recovery_fuses)

    @rule(recovery_fuses=st.lists(st.integers(0, 8), max_size=3))
    def cut_the_power(self, recovery_fuses: list[int]) -> None:
        self.recover(recovery_fuses)

    @rule(window=st.integers(1, 7), max_bytes=st.integers(1, 3000))
    def read_in_windows(self, window: int, max_bytes: int) -> None:
        assert self.read_all(window, max_bytes) == self.expected()

    @invariant()
    def serves_what_was_promised(self) -> None:
        assert self.read_all(1000, 1 << 20) == self.expected()

    def expected(self) -> list[JournaledCallback]:
        return [
            JournaledCallback(sequence, entry.received_ms, entry.merchant.decode(), entry.body)
            for sequence, entry in self.promised.items()
            if sequence > self.store.published
        ]

    def read_all(self, window: int, max_bytes: int) -> list[JournaledCallback]:
        read: list[JournaledCallback] = []
        after = self.store.published
        while callbacks := self.store.read(after, window, max_bytes):
            assert len(callbacks) <= window
            assert len(callbacks) == 1 or sum(len(callback.body) for callback in callbacks) <= max_bytes
            read += callbacks
            after = callbacks[-1].sequence
        assert not self.store.has_more(after)
        return read


JournalMachine.TestCase.settings = settings(
    stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestJournalUnderPowerCuts = JournalMachine.TestCase
