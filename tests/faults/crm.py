"""Crm consumers, results in disorder, a sandbox CRM that is killed too, and what came out in the end."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from schemas.event import DialResult
from schemas.mapping import mapped, newest_key
from tests.crm import TOKEN, Crm, event
from tests.integration.delivery import Kafka
from tests.services import free_port

from . import members
from .members import LIMIT_S, ROOT, Nursery


@contextmanager
def nursery(folder: Path, kafka: Kafka, **environment: str) -> Iterator[Nursery]:
    """Give what starts crm consumers; a frozen one's locks last `CRM_HOLD_S` + `CRM_CALL_TIMEOUT_S` + half a second."""
    settings = {"CRM_TOKEN": TOKEN, "CRM_LIMIT_CALLS": "100000", "CRM_PAUSE_S": "1"} | environment
    with members.nursery(folder, kafka, "crm", linger_s=0.02, first="sink.ledger._GRACE_S = 0.5", **settings) as found:
        yield found


@dataclass
class SandboxProcess:
    """The sandbox CRM as a process on one port and state file, to be killed and started again."""

    folder: Path
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, *faults: dict[str, Any]) -> None:
        command = [sys.executable, "-m", "ops.standalone.crm", "--port", str(self.port), "--limit", "1000000"]
        command += ["--faults", json.dumps(faults)]
        self._process = subprocess.Popen(  # noqa: ASYNC220  # nothing else runs meanwhile
            [*command, "--state", str(self.folder / "state")], cwd=ROOT, env=os.environ | {"SANDBOX_CRM_TOKEN": TOKEN}
        )
        async with asyncio.timeout(LIMIT_S), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"{self.url}/healthz"):
                        return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(LIMIT_S)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Crm]:
        async with aiohttp.ClientSession() as session:
            yield Crm(self.url, session)


def recent_ms() -> int:
    """Return when results were received: a moment ago, or Kafka's retention would delete them from under the test."""
    return int(time.time() * 1000) - 60_000


def shuffled_results(contacts: int, calls: int, seed: int) -> list[DialResult]:
    """Make results of so many contacts, each called every minute: a third without a call time, a tenth twice.

    They come roughly in order of time, but no contact's own are in order: each is up to four calls late.
    """
    chance, last_ms = random.Random(seed), recent_ms()
    made: list[tuple[float, DialResult]] = []
    for contact, call in itertools.product(range(contacts), range(calls)):
        at_ms = last_ms - 60_000 * (calls - call)
        when = datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat()
        timed = {"callTime": when} if chance.random() < 0.67 else {}
        result = event(f"{contact}", number=call, received_ms=at_ms, **timed)
        made += [(call + chance.uniform(0, 4), result) for _ in range(1 + (chance.random() < 0.1))]
    return [result for _, result in sorted(made, key=itemgetter(0))]


def newest(events: Sequence[DialResult]) -> dict[str, str]:
    """Return the event that each contact has to show in the end."""
    found: dict[str, tuple[Any, str]] = {}
    for one in events:
        rank = newest_key(one, mapped(one.record(), None).called_at)
        contact = one.key.decode()
        found[contact] = max(found.get(contact, (rank, one.event_id)), (rank, one.event_id))
    return {contact: event_id for contact, (_, event_id) in found.items()}


@dataclass
class Outcome:
    """What a run came to."""

    missing: int
    double: int
    wrong: int
    effects: int

    @classmethod
    async def of(cls, crm: Crm, dsn: str, events: Sequence[DialResult]) -> Outcome:
        """Compare CRM and ledger with what had to come out."""
        effects = Counter(await crm.effects())
        expected = newest(events)
        shown = {contact: await crm.shows(contact) for contact in expected}
        connection = await asyncpg.connect(dsn)
        try:
            rows = await connection.fetch("SELECT event_id FROM ops.crm_ledger WHERE state IN ('done', 'superseded')")
        finally:
            await connection.close()
        settled = {str(row["event_id"]) for row in rows}
        return cls(
            missing=len({one.event_id for one in events} - settled),
            double=sum(count - 1 for count in effects.values()),
            wrong=sum(shown[contact] != event_id for contact, event_id in expected.items()),
            effects=effects.total(),
        )


async def until_pending(dsn: str, event_ids: Sequence[str]) -> None:
    """Wait until a call with one of these is begun."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(LIMIT_S):
            query = "SELECT count(*) FROM ops.crm_ledger WHERE state = 'pending' AND event_id = ANY($1::uuid[])"
            while not await connection.fetchval(query, event_ids):
                await asyncio.sleep(0.01)
    finally:
        await connection.close()
