"""`dial-results report balance`: even while all is well, and uneven when a row is deleted by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from consumers.sinks.storage.migrate import migrate
from ops.places import Places
from ops.reporting.balance import results
from ops.trace import _traced
from schemas import topics
from schemas.blu import BluRecord
from schemas.event import DialResult, dial_result
from schemas.exact import canonical
from tests.services import Broker, Database

from .delivery import Kafka, own_topics, running, until_committed
from .test_erase_command import Storage

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)


@pytest.fixture
async def kafka(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kafka]:
    async with own_topics(broker.bootstrap_servers, monkeypatch, "storage", "analytics", "crm") as found:
        yield found


def event(number: int, minute: float) -> DialResult:
    content = canonical({"id": number})
    at = int((HOUR + timedelta(minutes=minute)).timestamp() * 1_000)
    return dial_result("demo", "1", BluRecord(0, str(number), content), at)


async def test_an_hour_is_even_until_a_row_is_deleted_by_hand(kafka: Kafka, postgres: Database, tmp_path: Path) -> None:
    dsn = postgres.fresh_database()
    await migrate(dsn)
    before, inside, after = event(1, -5), [event(number, number) for number in range(10, 20)], event(30, 61)
    repeats = [event(1, 3), event(10, 15)]  # one whose first copy came before the hour
    await kafka.publish([before, *inside, *repeats, after])
    await kafka.publish([event(11, 16)], re_sent="2026-11-24T03:14:15.926Z")
    places = Places({"bootstrap_servers": kafka.bootstrap_servers}, dsn, str(tmp_path / "delta"))
    connection = await asyncpg.connect(dsn)
    try:
        published, sheets = await results(connection, places, HOUR)
        counted = (published.records, len(published.first), published.repeats, published.resent)
        assert counted == (13, 10, 2, 1)
        assert {name: sheet.waiting for name, sheet in sheets.items()} == {"storage": 10, "analytics": 10, "crm": 10}
        async with running(kafka, Storage(dsn), name="storage"):
            await until_committed(kafka, "storage")
        sheet = (await results(connection, places, HOUR))[1]["storage"]
        assert (sheet.applied, sheet.waiting, sheet.missing) == (10, 0, ())
        assert await _traced(places, event(10, 10).event_id, None, None, None) == await _traced(
            places, None, "demo", "10", None
        )
        (traced,) = await _traced(places, event(10, 10).event_id, None, None, None)
        said = [(hop["where"], hop["what"].partition(":")[0]) for hop in traced["hops"]]
        assert said == [
            ("receiver", "received, and on its journal's disk before the answer 200"),
            (topics.DIAL_RESULTS, "published"),
            (topics.DIAL_RESULTS, "published again (a repeat)"),
            ("storage", "a row"),
            ("analytics", "waiting"),
            ("crm", "waiting"),
        ]
        await connection.execute("DELETE FROM dial_result WHERE record_id = '12'")
        (traced,) = await _traced(places, None, "demo", "12", HOUR)  # storage does not know it any more
        assert ("storage", "committed, and no effect of it there") in [(h["where"], h["what"]) for h in traced["hops"]]
        sheet = (await results(connection, places, HOUR))[1]["storage"]
        assert (sheet.applied, sheet.missing) == (9, (inside[2].event_id,))
        await kafka.erase("12")
        sheet = (await results(connection, places, HOUR))[1]["storage"]
        assert (sheet.applied, sheet.erased, sheet.missing) == (9, 1, ())
    finally:
        await connection.close()
