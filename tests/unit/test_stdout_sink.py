from __future__ import annotations

from pathlib import Path

from consumers.sink import Delivery
from consumers.sinks import stdout
from schemas import topics, wire
from schemas.blu import BluRecord
from schemas.event import DialResult, dial_result


def event(record_id: str, received_ms: int) -> DialResult:
    return dial_result("demo", "1", BluRecord(0, record_id, b"{}"), received_ms)


async def test_of_a_repeat_the_first_counts_and_lines_keep_their_order(tmp_path: Path) -> None:
    events = [event("1", 1_000), event("2", 2_000), event("1", 3_000)]
    path = tmp_path / "out.jsonl"
    async with stdout.connect(stdout.Settings(path=path), {}) as sink:
        await sink.write([Delivery(one, topics.DIAL_RESULTS, 0, offset) for offset, one in enumerate(events)])
        await sink.write([Delivery(event("2", 9_000), topics.DIAL_RESULTS, 0, 3)])
    assert [wire.decode(line) for line in path.read_bytes().splitlines()] == events[:2]
