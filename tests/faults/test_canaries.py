"""Canaries with a real broker, that runs and that is gone, and with a disk that is really full, at every log level."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.integration.test_receiver_publisher import ensure_topics
from tests.services import Broker
from tests.unit import canaries
from tests.unit.test_receiver_canaries import scan
from tests.unit.test_receiver_process import Process

from .test_receiver_faults import small_disk

__all__ = ["small_disk"]

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

LEVELS = ("debug", "info", "warning", "error")


def receiver(folder: Path, level: str, **environment: str) -> Process:
    folder.mkdir()
    return Process(
        folder,
        RECEIVER_LOG_LEVEL=level,
        RECEIVER_ACCESS_LOG="all",
        RECEIVER_KEEPALIVE_S="1",
        RECEIVER_BODY_TIMEOUT_S="0.3",
        **environment,
    )


async def test_no_canary_comes_out_with_a_broker_that_runs_and_one_that_is_gone(
    own_broker: Broker, tmp_path: Path
) -> None:
    await ensure_topics(own_broker)
    for kafka in ("up", "gone"):
        if kafka == "gone":
            await asyncio.to_thread(own_broker.kill)
        for level in LEVELS:
            one = receiver(tmp_path / f"{kafka}-{level}", level, KAFKA_BOOTSTRAP_SERVERS=own_broker.bootstrap_servers)
            said, statuses = await scan(one, kafka=kafka == "up")
            assert f"dial_results_receiver_kafka_up {float(kafka == 'up')}" in said, kafka
            assert statuses.count(200) >= len(canaries.good())
            found = canaries.hits(said)
            print(f"Kafka {kafka}, level {level}: {len(statuses)} answers, {len(said)} characters, {len(found)} hits")
            assert found == []
            assert "Traceback" not in said


async def test_no_canary_comes_out_of_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    assert shutil.disk_usage(small_disk).total < 30_000_000
    (small_disk / "ballast").write_bytes(b"\1" * 21_500_000)  # the journal leaves a tenth of a disk free: 1.1 MB for it
    for level in LEVELS:
        one = receiver(
            tmp_path / level,
            level,
            RECEIVER_JOURNAL_DIR=str(small_disk / level),
            RECEIVER_JOURNAL_SEGMENT_BYTES=str(1 << 18),
        )
        said, statuses = await scan(one, canaries.good() * 4)
        found = canaries.hits(said)
        print(f"disk full, level {level}: 200 {statuses.count(200)}, 503 {statuses.count(503)}, {len(found)} hits")
        assert statuses.count(503) > 0
        assert found == []
        assert "Traceback" not in said
        shutil.rmtree(small_disk / level)
