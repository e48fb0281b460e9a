"""Plan and settling against a model: a log of results, batches cut anew after each failure, a CRM that fails anyhow."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consumers.sinks.crm.ledger import DONE, PENDING, SUPERSEDED, Row
from consumers.sinks.crm.mapping import Item, Rank
from consumers.sinks.crm.outcome import Ok, Outcome, Reject, Retry
from consumers.sinks.crm.plan import Known, Plan, Sending, first_seen, plan
from consumers.sinks.crm.sink import Round, _rows

START = datetime(2026, 11, 24, tzinfo=UTC)


def one(event: str, contact: str = "demo:1", minute: int = 0, seen: int = 0) -> Item:
    """Make an item; `seen` tells apart the repeats of one result."""
    rank = Rank(True, START + timedelta(minutes=minute), event)
    return Item(event, contact, rank, {"event": event, "seen": str(seen)})


def test_only_the_newest_of_a_contact_is_sent() -> None:
    old, new, other = one("a", minute=1), one("b", minute=2), one("c", "demo:2")
    assert plan([new, old, other], Known()) == Plan((Sending(new, (old,)), Sending(other)), ())


def test_what_is_settled_is_passed_over() -> None:
    assert plan([one("a")], Known(settled=frozenset("a"))) == Plan((), ())


def test_what_is_older_than_the_newest_done_is_superseded_unsent() -> None:
    old, done = one("a", minute=1), one("b", minute=2)
    assert plan([old], Known(newest={"demo:1": done})) == Plan((), (old,))


def test_a_pending_newer_one_is_sent_first_with_its_own_values() -> None:
    old, pending = one("a", minute=1), one("b", minute=2)
    repeat = one("b", minute=2, seen=1)
    assert plan([old], Known(pending=(pending,))) == Plan((Sending(pending, (old,)),), ())
    assert plan([repeat], Known(pending=(pending,))) == Plan((Sending(pending),), ())


def test_behind_a_pending_older_one_the_newest_is_sent_again() -> None:
    pending, done = one("a", minute=1), one("b", minute=2)
    known = Known(newest={"demo:1": done}, pending=(pending,))
    assert plan([pending], known) == Plan((Sending(done._replace(repairs="a"), (pending,), again=True),), ())


def test_of_repeats_in_a_batch_the_first_seen_counts() -> None:
    first, later = one("a", minute=1), one("a", minute=6, seen=1)
    assert first_seen([later, first]) == first_seen([first, later]) == {"a": first}


@dataclass
class World:
    """A ledger, a CRM and a position in a log; `bad` events are refused for good."""

    log: list[Item]
    bad: set[str]
    at: int = 0
    rows: dict[str, Row] = field(default_factory=dict)
    crm: dict[str, dict[str, str]] = field(default_factory=dict)
    effects: list[Item] = field(default_factory=list)
    rejected: set[str] = field(default_factory=set)

    def known(self, items: list[Item]) -> Known:
        contacts = {item.contact for item in items}
        ids = {item.event_id for item in items}
        mine = [row for row in self.rows.values() if row.item.contact in contacts]
        newest: dict[str, Item] = {}
        for row in sorted((row for row in mine if row.state == DONE), key=lambda row: row.item.rank):
            newest[row.item.contact] = row.item._replace(properties=row.item.properties if row.keep else {})
        settled = frozenset(i for i in ids if i in self.rows and self.rows[i].state in (DONE, SUPERSEDED))
        return Known(settled, newest, tuple(row.item for row in mine if row.state == PENDING))

    def send(self, item: Item, luck: str) -> Outcome:
        if luck == "not sent":
            return Retry("x")
        if item.event_id in self.bad:
            return Reject("x")
        if self.crm.get(item.contact) != item.properties:
            self.crm[item.contact] = item.properties
            self.effects.append(item)
        return Retry("x") if luck == "lost" else Ok(None)

    def write(self, items: list[Item], luck: list[str], *, crash: bool) -> bool:
        """Write a batch as the sink does; return whether it may be committed."""
        waiting = list(first_seen(items).values())
        while waiting:
            planned = plan(waiting, self.known(waiting))
            self.rows |= {s.item.event_id: Row(s.item, PENDING, keep=True) for s in planned.sendings if not s.again}
            outcomes = [self.send(s.item, luck.pop() if luck else "good") for s in planned.sendings]
            if crash:
                return False
            result = self.settle(planned, outcomes)
            if result.retries:
                return False
            self.rejected |= result.rejected.keys()
            waiting = [i for i in waiting if i.contact in result.again and i.event_id not in result.rejected]
        return True

    def settle(self, planned: Plan, outcomes: list[Outcome]) -> Round:
        newest = self.known([sending.item for sending in planned.sendings]).newest
        rows, result = [Row(item, SUPERSEDED) for item in planned.superseded], Round()
        for sending, outcome in zip(planned.sendings, outcomes, strict=True):
            rows += _rows(sending, outcome, newest.get(sending.item.contact), result)
        self.rows |= {row.item.event_id: row for row in rows}
        return result


minutes = st.integers(0, 5)
results = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["demo:1", "demo:2"]), st.integers(0, 1)), max_size=12
)
whens = st.lists(minutes, min_size=16, max_size=16)
steps = st.lists(
    st.tuples(st.integers(1, 8), st.lists(st.sampled_from(["good", "lost", "not sent"]), max_size=4), st.booleans()),
    max_size=12,
)


@given(results=results, when=whens, steps=steps, data=st.data())
def test_final_states_are_newest_and_no_event_has_two_effects(results: Any, when: Any, steps: Any, data: Any) -> None:
    events = {f"{name}-{contact}" for name, contact, _ in results}
    minute = dict(zip(sorted(events), when, strict=False))
    log = [one(f"{n}-{c}", c, minute[f"{n}-{c}"], seen) for n, c, seen in results]
    world = World(log, set(data.draw(st.lists(st.sampled_from(sorted(events)), max_size=2))) if events else set())
    for size, luck, crash in steps:
        if world.write(world.log[world.at : world.at + size], luck, crash=crash):
            world.at += size
    assert world.write(world.log[world.at :], [], crash=False)
    for contact in ("demo:1", "demo:2"):
        good = [item for item in log if item.contact == contact and item.event_id not in world.bad]
        shown = world.crm.get(contact, {}).get("event")
        assert shown == (max(good, key=lambda item: item.rank).event_id if good else None)
        history = [item.rank for item in world.effects if item.contact == contact]
        assert history == sorted(set(history)), "an event had two effects, or an older one came behind a newer"
    assert {item.event_id for item in log} & world.bad >= world.rejected
