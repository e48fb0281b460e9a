"""`make bench-trace`: how long `dial-results trace` takes with a million results in every place that it asks.

The results are in Kafka, in PostgreSQL, in the Delta table (both by their consumers) and in the CRM's ledger (by SQL: a
CRM takes hours for a million). All were received within 17 minutes: what a trace reads of a partition is the most it
can be. The clock runs around the whole command.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import TYPE_CHECKING

import asyncpg

from benchmarks.consumers import machine
from benchmarks.consumers.backlog import fill, results
from benchmarks.consumers.figure import Figure
from benchmarks.consumers.one_process import run_to_end
from benchmarks.consumers.report import conditions, table
from schemas import topics

if TYPE_CHECKING:
    from collections.abc import Mapping

_TARGET_S = 2.0
_LOOKS = 5
_HOPS = {"receiver", topics.DIAL_RESULTS, "storage", "analytics", "sandbox"}
_LEDGER = """
INSERT INTO ops.crm_ledger (destination, event_id, contact, state, newest_known, newest_at, attempts)
SELECT 'sandbox', event_id, merchant || ':' || record_id, 'done', true, received_at, 1 FROM dial_result
"""
_SOME = "SELECT event_id::text, record_id FROM dial_result ORDER BY received_at OFFSET $1 LIMIT 1"


def main() -> int:
    """Measure; return 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trace", description=__doc__)
    parser.add_argument("--results", type=int, default=1_000_000, help="stored before the first trace (1,000,000)")
    asked = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a broker that starts is not there yet
    figures = asyncio.run(_measure(asked.results))
    print(table(figures))
    print(f"\n{conditions(asked.results / 1_000_000)}")
    return int(any(one.ok is False for one in figures))


async def _measure(count: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="dial-results-bench-", ignore_cleanup_errors=True) as uri:
        async with machine.kafka(*topics.CONSUMERS) as kafka, machine.postgres() as dsn:
            await fill(kafka, results(count))
            places = {
                "KAFKA_BOOTSTRAP_SERVERS": kafka,
                "STORAGE_DSN": dsn,
                "ANALYTICS_URI": uri,
                "ANALYTICS_PSEUDONYM_KEY": "benchmark",
            }
            await asyncio.gather(*(run_to_end(name, kafka, count, places) for name in ("storage", "analytics")))
            connection = await asyncpg.connect(dsn, command_timeout=600)
            try:
                await connection.execute(_LEDGER)
                wanted = [await connection.fetchrow(_SOME, count * place // _LOOKS) for place in range(_LOOKS)]
            finally:
                await connection.close()
            by_event = [_traced(places, "--event-id", event_id) for event_id, _ in wanted]
            by_record = [_traced(places, "--record-id", record_id) for _, record_id in wanted]
    return [_figure("trace --event-id", by_event, count), _figure("trace --record-id", by_record, count)]


def _traced(places: Mapping[str, str], option: str, value: str) -> float:
    command = [sys.executable, "-m", "ops", "trace", option, value, "--json"]
    began = time.perf_counter()
    said = subprocess.run(command, env=os.environ | places, stdout=subprocess.PIPE, check=True).stdout
    took = time.perf_counter() - began
    [one] = json.loads(said)
    seen = {hop["where"] for hop in one["hops"] if not hop["what"].startswith("waiting")}
    assert seen >= _HOPS, f"hops are missing: {_HOPS - seen}"
    return took


def _figure(name: str, took: list[float], count: int) -> Figure:
    said = f"{count:,} results stored; the longest of {len(took)}, median {median(took):.2f} s; every hop was there"
    return Figure(name, f"<= {_TARGET_S:.0f}", max(took), "s", max(took) <= _TARGET_S, said)


if __name__ == "__main__":
    sys.exit(main())
