"""`dial-results report task`: from storage's rows and the topic, before, while and after storage has them."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner, Result

from consumers.sinks.storage.migrate import migrate
from ops import report
from schemas import topics
from schemas.blu import BluRecord
from schemas.event import CALLBACK, RECONCILE, DialResult, dial_result
from schemas.exact import canonical
from tests.services import Broker, Database

from .delivery import Kafka, own_topics, running, until_committed
from .test_erase_command import Storage

BEGIN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


@pytest.fixture
async def kafka(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kafka]:
    async with own_topics(broker.bootstrap_servers, monkeypatch, "storage") as found:
        monkeypatch.setattr(topics, "QUARANTINE", f"quarantine-{uuid.uuid4().hex[:12]}")
        await found.create_topic(topics.QUARANTINE, 1)
        yield found


def event(
    number: int, *, minute: float = 0, called: float | None = None, task: str = "1", source: str = CALLBACK
) -> DialResult:
    """One that was received so many minutes after BEGIN, of a call at that minute."""
    at = BEGIN + timedelta(minutes=minute)
    time = {} if called is None else {"callTime": f"{BEGIN + timedelta(minutes=called):%Y-%m-%d %H:%M:%S}"}
    received_ms = int(at.timestamp() * 1_000)
    return dial_result(
        "demo", task, BluRecord(0, str(number), canonical({"id": number} | time)), received_ms, source=source
    )


def run(*arguments: str) -> Result:
    return CliRunner().invoke(report.report, ["task", *arguments])


async def said(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command, which has an event loop of its own, beside the test's."""
    ended = await asyncio.to_thread(run, "1", "--json", *arguments)
    return ended.exit_code, json.loads(ended.stdout)


async def quarantine(kafka: Kafka, merchant: str, minute: float) -> None:
    at = BEGIN + timedelta(minutes=minute)
    headers = [("merchant", merchant.encode()), ("received-at", at.isoformat().encode()), ("reason", b"not-json")]
    await kafka.publish_raw(b"{", topics.QUARANTINE, partition=0, headers=headers)


async def test_a_task_is_counted_from_storage_and_topic_together(
    kafka: Kafka, postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = postgres.fresh_database()
    await migrate(dsn)
    monkeypatch.setenv("STORAGE_DSN", dsn)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    assert (await said("--uploaded", "4"))[0] == 1  # nobody knows it
    first = [
        event(1, minute=0, called=-1),
        event(2, minute=1, called=-30),  # late
        event(2, minute=2, called=1),  # the same contact, called again
        event(3, minute=3, source=RECONCILE),
        event(9, minute=3, task="10"),
    ]
    repeats = [event(1, minute=5, called=-1), event(1, minute=10, called=-1)]
    await kafka.publish([*first, *repeats])
    await kafka.publish([first[1]], re_sent="2026-11-24T03:14:15.926Z")
    for merchant, minute in (("demo", 4), ("demo", 58), ("other", 4)):  # one in its time
        await quarantine(kafka, merchant, minute)
    code, found = await said("--uploaded", "3")
    assert (code, found["received"], found["waiting"], found["contacts"]) == (0, 4, 4, 3)

    async with running(kafka, Storage(dsn), name="storage"):
        await until_committed(kafka, "storage")
    code, found = await said("--uploaded", "3")
    counts = {"received": 4, "contacts": 3, "missing": 0, "late": 1, "duplicates": 2, "re_sent": 1, "reconciled": 1}
    storage = {"waiting": 0, "not_in_storage": 0, "without_call_time": 0, "quarantined_of_merchant": 1}
    assert (code, {name: found[name] for name in counts | storage}) == (0, counts | storage)
    assert (await said("--late-after", "40m"))[1]["late"] == 0
    since = f"{BEGIN + timedelta(minutes=7):%Y-%m-%dT%H:%M:%S}"
    assert (await said("--since", since))[1]["duplicates"] == 1  # its first copy came before, and is not read

    await kafka.publish([event(4, minute=55)])  # long after the others: storage has not got to it yet
    code, found = await said("--uploaded", "5")
    assert (code, found["received"], found["waiting"], found["missing"]) == (1, 5, 1, 1)
    connection = await asyncpg.connect(dsn)
    await connection.execute("DELETE FROM dial_result WHERE record_id = '1'")
    code, found = await said("--merchant", "demo")
    assert (code, found["received"], found["not_in_storage"], found["missing"]) == (0, 5, 1, None)
    await connection.execute(
        "UPDATE dial_result SET merchant = 'other' WHERE record_id = '2' AND called_at < $1", BEGIN
    )
    await connection.close()
    ended = await asyncio.to_thread(run, "1")
    assert (ended.exit_code, "demo, other" in ended.output) == (2, True)


def test_a_length_of_time_that_is_none_is_a_usage_error() -> None:
    assert run("1", "--late-after", "yesterday").exit_code == 2
