"""The table in S3, by setting alone. moto knows conditional puts, which delta-rs needs where two write."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from consumers.sink import SinkUnavailable
from consumers.sinks.analytics import Settings, connect
from ops.query import query
from tests.integration.test_analytics import assert_exactly, event, live, many, replayed
from tests.services import free_port

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "made-up", "AWS_SECRET_ACCESS_KEY": "made-up", "AWS_REGION": "us-east-1"}


@pytest.fixture
def settings() -> Iterator[Settings]:
    """A server of its own process: delta-rs keeps Python's lock in some of its calls, and would wait for itself."""
    port = free_port()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], **quiet)
    options = CREDENTIALS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true"}
    try:
        _create_bucket(port)
        yield Settings(uri="s3://lake/results", pseudonym_key="secret", compact_every=3, storage_options=options)
    finally:
        server.kill()
        server.wait()


def _create_bucket(port: int) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/lake", method="PUT")
    for _ in range(1_200):
        try:
            urllib.request.urlopen(request, timeout=5).close()  # noqa: S310  # moto
        except OSError:  # it starts
            time.sleep(0.1)
        else:
            return
    raise AssertionError("moto did not start")


async def test_two_writers_of_the_same_partitions_never_double_a_row_in_s3(settings: Settings) -> None:
    events = many(120)
    async with connect(settings, {}) as one, connect(settings, {}) as other:
        for first in range(0, 120, 20):
            batch = live(events[first : first + 20], first)
            await asyncio.gather(one.write(batch), other.write(batch))
        await one.write(replayed([*events[:10], event("new")], range(11)))
    await assert_exactly(settings, [*events, event("new")])


async def test_operators_ask_the_table_in_s3(settings: Settings) -> None:
    async with connect(settings, {}) as sink:
        await sink.write(live(many(7, conclusion="HPTP")))
    environment = {"ANALYTICS_URI": settings.uri, "ANALYTICS_STORAGE_OPTIONS": json.dumps(settings.storage_options)}
    asked = ["--report", "promise-funnel", "--json"]
    result = await asyncio.to_thread(CliRunner().invoke, query, asked, env=environment)
    assert json.loads(result.stdout) == [{"dialled": 7, "reached": 7, "promised": 7, "paid": 0}]


async def test_a_bucket_that_is_not_there_is_unavailable(settings: Settings) -> None:
    with pytest.raises(SinkUnavailable):
        async with connect(settings.model_copy(update={"uri": "s3://none/results"}), {}):
            pass
