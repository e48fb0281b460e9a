"""One command's work on a dead-letter topic."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from consumers.finding import names
from ops import audit
from ops.kafka import REQUEST_S, partition_counts
from ops.places import Places, database
from ops.replaying import jobs
from ops.replaying.sending import Copier, Pace, copying
from ops.replaying.target import UnfitTarget, target
from schemas import topics
from schemas.clients import started
from schemas.merchants import load_merchants

from .letters import PURGED, REDRIVEN, Chosen, Fits, Groups, Letter, Letters, copy_of, settle, settled_ones
from .shown import shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import asyncpg

    from ops.replaying.reading import Span

    from .letters import Record

_AT_A_TIME = 500  # what a kill may send twice at most; no effect happens twice
_STOP_S = 1.0


@dataclass
class Desk:
    """One consumer's dead letters as they stood when it was opened, and everything to deal with them."""

    places: Places
    connection: asyncpg.Connection
    letters: Letters
    standing: dict[int, Span]
    settled: set[tuple[int, int, int]]
    partitions: int
    """Of the replay topic."""

    async def chosen(self, asked: Chosen) -> AsyncIterator[Letter]:
        """Yield the dead letters that are meant, those too of which something became."""
        merchants = load_merchants(self.places.merchants_file) if self.places.merchants_file else {}
        fits = Fits(asked, merchants)
        async for letter in self.letters.read(self.standing, self.settled):
            if fits(letter):
                yield letter

    async def groups(self, asked: Chosen) -> Groups:
        """Count them by reason."""
        groups = Groups()
        async for letter in self.chosen(asked):
            groups.add(letter)
        return groups

    async def find(self, which: str) -> Letter | None:
        """Find one by `partition:offset`, or the newest by its event id."""
        found = None
        async for letter in self.letters.read(self.standing, self.settled):
            record = letter.record
            named = (
                f"{record.partition}:{record.offset}",
                dict(record.headers).get("ce_id", b"").decode(errors="replace"),
            )
            found = letter if which in named else found
        return found

    async def show(self, letter: Letter, *, unmask: bool) -> dict[str, Any]:
        """Return it for a person's eyes; unmasked only when that is on record."""
        if unmask:
            place = {"partition": letter.record.partition, "offset": letter.record.offset}
            await self.audit("redrive unmask", place, {"shown": 1})
        return shown(letter, unmask=unmask)

    async def redrive(self, asked: Chosen, limit: int | None, rate: int) -> int:
        """Send those that wait to the replay topic, each remembered when all replicas have it; return how many.

        Raises:
            KafkaError, OSError, TimeoutError, asyncpg.PostgresError: some are, and are remembered; run it again.
        """
        name, pace, done = _name("redrive"), Pace(rate), 0
        async with copying(self.places.kafka) as producer:
            copier = Copier(producer, topics.replay(self.letters.consumer))
            async for some in self._waiting(asked, min(_AT_A_TIME, pace.portion), limit):
                await copier.send(copy_of(one, name.encode(), self.partitions) for one in some)
                await copier.settled()
                await settle(self.connection, self.letters.consumer, some, REDRIVEN, name)
                done += len(some)
                await pace.wait(len(some))
        await self.audit("redrive", _said(asked) | {"redrive": name, "limit": limit}, {"redriven": done})
        return done

    async def purge(self, asked: Chosen) -> int:
        """Settle those that wait without redriving them, and have Kafka delete what lies before all that wait on."""
        name, done = _name("purge"), 0
        async for some in self._waiting(asked, _AT_A_TIME, None):
            await settle(self.connection, self.letters.consumer, some, PURGED, name)
            self.settled |= {(one.partition, one.offset, one.timestamp) for one in some}
            done += len(some)
        await self._delete_settled()
        await self.audit("redrive purge", _said(asked) | {"purge": name}, {"purged": done})
        return done

    async def audit(self, command: str, said: Mapping[str, Any], counts: Mapping[str, int]) -> None:
        """Write to `ops.audit`."""
        await audit.record(self.connection, command, {"consumer": self.letters.consumer, **said}, counts)

    async def _waiting(self, asked: Chosen, portion: int, limit: int | None) -> AsyncIterator[list[Record]]:
        some: list[Record] = []
        left = limit
        async for letter in self.chosen(asked):
            if letter.settled or left == 0:
                continue
            some.append(letter.record)
            left = None if left is None else left - 1
            if len(some) >= portion:
                yield some
                some = []
        if some:
            yield some

    async def _delete_settled(self) -> None:
        before = {place: self.standing[place.partition].end for place in self.letters.places}
        async for letter in self.letters.read(self.standing, self.settled):
            if not letter.settled:
                place = self.letters.places[letter.record.partition]
                before[place] = min(before[place], letter.record.offset)
        gone = {place: RecordsToDelete(offset) for place, offset in before.items() if offset > 0}
        admin = AIOKafkaAdminClient(**self.places.kafka, request_timeout_ms=int(REQUEST_S * 1_000))
        async with started(admin, REQUEST_S, _STOP_S):
            await admin.delete_records(gone)


@asynccontextmanager
async def desk(places: Places, consumer: str) -> AsyncIterator[Desk]:
    """Open a consumer's dead letters, for one at a time.

    Raises:
        UnfitTarget: there is no such consumer, or its topics are missing.
        JobHeld: somebody else is at it.
        DatabaseAway, KafkaError, OSError, TimeoutError: a place cannot be asked.
    """
    if consumer not in names():
        raise UnfitTarget(f"there is no consumer {consumer}; there are: {', '.join(names())}")
    counts = await partition_counts(places.kafka)
    partitions, dead = target(consumer, counts).partitions, counts.get(topics.dead_letter(consumer))
    if dead is None:
        raise UnfitTarget(f"there is no topic {topics.dead_letter(consumer)}")
    letters = Letters(places.kafka, consumer, dead)
    async with database(places.dsn()) as connection, jobs.held(connection, f"dead letters of {consumer}"):
        settled = await settled_ones(connection, consumer)
        standing = await letters.standing()
        yield Desk(places, connection, letters, standing, settled, partitions)


def _name(what: str) -> str:
    return f"{what}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _said(asked: Chosen) -> dict[str, Any]:
    return asked.filters.for_audit() | ({"reasons": list(asked.reasons)} if asked.reasons else {})
