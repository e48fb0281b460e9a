"""A `quarantine resubmit` that is killed at random points and run again: nothing is left out, and nobody has it twice.

`FAULTS_RESUBMIT_KILLS` is how often.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from consumers.sinks import storage
from consumers.sinks.storage.migrate import migrate
from ops.topics import apply
from receiver.journal import JournaledCallback
from receiver.window import records_of
from schemas import topics
from tests.integration.delivery import Kafka, running, until
from tests.integration.replaying import everything, ids
from tests.integration.test_quarantine import RULE, garbled, quarantined
from tests.services import Broker, Database

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

KILLS = int(os.environ.get("FAULTS_RESUBMIT_KILLS", "10"))
BODIES = 2_000
WINDOW = 50  # bodies; the command's own 500 would be few windows
SETTLED = "SELECT event_ids FROM ops.quarantine_state"


class Storage:
    def __init__(self, dsn: str) -> None:
        self._settings = storage.Settings(dsn=dsn)

    def connect(self) -> Any:
        return storage.connect(self._settings, {})


def resubmit(broker: Broker, dsn: str, rule: Path) -> subprocess.Popen[str]:
    program = (
        f"from ops.quarantining import work; work._WINDOW_BODIES = {WINDOW}; from ops.cli import main; main()",
        *("quarantine", "resubmit", "--rules", str(rule), "--yes", "--json"),
    )
    settings = {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers, "STORAGE_DSN": dsn}
    return subprocess.Popen(
        [sys.executable, "-c", *program],
        env=os.environ | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed_at_work(process: subprocess.Popen[str], chance: random.Random) -> bool:
    """Let it publish a window or two, then kill it; return whether it was at work still."""
    assert process.stderr
    windows, seen = chance.randint(0, 3), 0
    for line in process.stderr:
        seen += " of " in line or "can be read" in line
        if seen > windows:
            break
    try:
        process.wait(chance.uniform(0.0, 0.05))
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()
    return process.returncode == -9


async def rows(dsn: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()


async def test_a_resubmit_that_is_killed_and_run_again_leaves_nothing_out_and_doubles_nothing(
    own_broker: Broker, postgres: Database, tmp_path: Path
) -> None:
    dsn, options = await asyncio.to_thread(postgres.fresh_database), {"bootstrap_servers": own_broker.bootstrap_servers}
    await migrate(dsn)
    await apply(options, topics.topic_specs(1))
    (tmp_path / "gbk.toml").write_text(RULE)
    found = garbled(BODIES)
    wanted = {_event_id(callback.body) for callback, _ in found}
    await quarantined(own_broker, *(body for _, body in found))
    chance, kills, further, before = random.Random(4), 0, 0, 0
    while kills < KILLS:
        process = resubmit(own_broker, dsn, tmp_path / "gbk.toml")
        assert await asyncio.to_thread(killed_at_work, process, chance), "it ended: this needs more bodies"
        kills += 1
        settled = len(await rows(dsn, SETTLED))
        further, before = further + (settled > before), settled
    last = resubmit(own_broker, dsn, tmp_path / "gbk.toml")
    _, said = await asyncio.to_thread(last.communicate)
    assert last.returncode == 0, said

    sent = ids(await everything(Kafka(own_broker.bootstrap_servers, None), topics.DIAL_RESULTS, topics.PARTITIONS))  # type: ignore[arg-type]
    state = [str(event_id) for (events,) in await rows(dsn, SETTLED) for event_id in events]
    async with running(Kafka(own_broker.bootstrap_servers, None), Storage(dsn), name="storage") as consumer:  # type: ignore[arg-type]
        await until(lambda: consumer.metrics.events_done._value.get() >= sent.total(), 60, consumer)
    stored = [str(row[0]) for row in await rows(dsn, "SELECT event_id FROM dial_result")]
    print(
        f"\n{kills} x kill -9 of a resubmit of {len(found)} bodies, {further} of them behind a further window: "
        f"{len(wanted - set(sent))} missing, {sent.total() - len(sent)} sent twice, {len(stored)} rows of {len(wanted)}"
    )
    assert further, "no kill came behind a window: this proves nothing"
    assert (set(sent), sorted(state), sorted(stored)) == (wanted, sorted(wanted), sorted(wanted))
    assert max(sent.values()) <= 1 + kills
    assert sent.total() - len(sent) <= kills * WINDOW


def _event_id(body: bytes) -> str:
    (outgoing,) = records_of(JournaledCallback(1, 1, "demo", body))
    return dict(outgoing.record.headers)["ce_id"].decode()
