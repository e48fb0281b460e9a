"""The receiver as `python -m receiver`: signals, exit codes, and what it writes where."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from receiver.journal import Journal, JournalLimits
from tests.services import free_port
from tests.unit.receivers import BODY, OTHER_TOKEN, SUCCESS, TOKEN, merchants

ROOT = Path(__file__).parents[2]
# The receiver as it is started, but for a disk that stalls or is nearly full: see conftest.py.
RUN = """
import runpy
from receiver.journal import JournalLimits
JournalLimits.__init__.__kwdefaults__.update(commit_budget_s=60.0, disk_share=1.0)
runpy.run_module("receiver", run_name="__main__", alter_sys=True)
"""


class Process:
    """One receiver process; standard error goes to a file."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.port, self.admin_port = free_port(), free_port()
        self.merchants = folder / "merchants.toml"
        if not self.merchants.exists():
            self.merchants.write_text(merchants(("demo", "t-1", TOKEN)))
        self.log = folder / "log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RECEIVER_", "KAFKA_"))},
            "RECEIVER_PORT": str(self.port),
            "RECEIVER_ADMIN_PORT": str(self.admin_port),
            "RECEIVER_MERCHANTS_FILE": str(self.merchants),
            "RECEIVER_JOURNAL_DIR": str(folder / "journal"),
            "RECEIVER_JOURNAL_SEGMENT_BYTES": str(4 << 20),
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            **environment,
        }

    async def start(self) -> asyncio.subprocess.Process:
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-c", RUN, cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )

    async def ends(self) -> int:
        process = await self.start()
        async with asyncio.timeout(60):
            return await process.wait()

    def url(self, token: str = TOKEN) -> str:
        return f"http://127.0.0.1:{self.port}/callbacks/{token}"

    async def post(self, session: aiohttp.ClientSession, body: bytes = BODY, token: str = TOKEN) -> int:
        async with session.post(self.url(token), data=body) as answer:
            if answer.status == 200:
                assert await answer.read() == SUCCESS
            return answer.status

    async def journaled(self) -> list[bytes]:
        journal = Journal.open(self.folder / "journal", JournalLimits(quota_bytes=1 << 30, segment_bytes=4 << 20))
        try:
            return [callback.body for callback in await asyncio.to_thread(journal.read, 0, 1_000_000, 1 << 30)]
        finally:
            await journal.close()


@asynccontextmanager
async def started(one: Process) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await one.start()
    try:
        async with asyncio.timeout(60):
            while not listens(one.port):
                assert process.returncode is None, one.log.read_text()
                await asyncio.sleep(0.02)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_cleanly_under_load_and_loses_nothing_acknowledged(tmp_path: Path, number: int) -> None:
    one = Process(tmp_path)
    acknowledged: set[bytes] = set()
    outcomes: dict[str, int] = {}

    async def sender(session: aiohttp.ClientSession, name: int) -> None:
        for count in range(100_000):
            body = b"%d-%d" % (name, count)
            try:
                status = await one.post(session, body)
            except aiohttp.ClientConnectorError:
                return  # nobody listens any more: not accepted
            except (aiohttp.ClientError, OSError) as error:
                outcomes[type(error).__name__] = outcomes.get(type(error).__name__, 0) + 1
                return
            outcomes[str(status)] = outcomes.get(str(status), 0) + 1
            if status == 200:
                acknowledged.add(body)

    async with started(one) as process, aiohttp.ClientSession() as session:
        senders = [asyncio.create_task(sender(session, name)) for name in range(16)]
        while len(acknowledged) < 500:
            await asyncio.sleep(0.01)
        process.send_signal(number)
        async with asyncio.timeout(60):
            assert await process.wait() == 0
            await asyncio.gather(*senders)
    assert outcomes == {"200": len(acknowledged)}, "no reset, nothing refused"
    assert acknowledged <= set(await one.journaled())


async def test_what_kafka_did_not_take_is_there_at_the_next_start(tmp_path: Path) -> None:
    one = Process(tmp_path)
    async with started(one) as process, aiohttp.ClientSession() as session:
        assert await one.post(session) == 200
        process.terminate()
        assert await process.wait() == 0
    async with started(one) as process, aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{one.admin_port}/metrics") as answer:
            assert "journal_waiting_callbacks 1.0" in await answer.text()
        process.kill()


async def test_killed_it_starts_again_with_everything_acknowledged(tmp_path: Path) -> None:
    one = Process(tmp_path)
    bodies = [b"%d" % number for number in range(200)]
    async with started(one) as process, aiohttp.ClientSession() as session:
        statuses = await asyncio.gather(*(one.post(session, body) for body in bodies))
        process.kill()
        await process.wait()
    assert set(statuses) == {200}
    async with started(one) as process, aiohttp.ClientSession() as session:
        assert await one.post(session, b"again") == 200
        process.terminate()
        await process.wait()
    assert set(await one.journaled()) == {*bodies, b"again"}


async def test_sighup_reads_the_merchants_file_again(tmp_path: Path) -> None:
    one = Process(tmp_path)
    async with started(one) as process, aiohttp.ClientSession() as session:
        assert await one.post(session, token=OTHER_TOKEN) == 404
        one.merchants.write_text(merchants(("demo", "t-1", TOKEN), ("acme", "t-9", OTHER_TOKEN)))
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(60):
            while await one.post(session, token=OTHER_TOKEN) != 200:
                await asyncio.sleep(0.02)
        assert await one.post(session) == 200


async def test_nothing_of_a_request_is_in_any_log_answer_or_metric(tmp_path: Path) -> None:
    one = Process(tmp_path, RECEIVER_LOG_LEVEL="debug", RECEIVER_ACCESS_LOG="all")
    body = b'{"taskId":"canary-task","records":[{"id":"canary-id","name":"canary-name","mobile":"canary-mobile"}]}'
    answers = b""
    async with started(one) as process, aiohttp.ClientSession() as session:
        headers = {"X-Canary": "canary-header", "User-Agent": "canary-agent"}
        for method in ("POST", "GET", "DELETE"):
            for token in (TOKEN, "canary-wrong", f"{TOKEN}?canary=query"):
                async with session.request(method, one.url(token), data=body, headers=headers) as answer:
                    answers += await answer.read() + str(answer.headers).encode()
        for request in (
            f"POST /callbacks/{TOKEN} HTTP/9.9\r\n\r\n".encode(),
            f"POST /callbacks/{TOKEN} canary\r\n\r\n".encode(),
            f"POST /callbacks/{TOKEN} HTTP/1.1\r\nHost: x\r\ncanary header\r\n\r\n".encode(),
            f"POST /callbacks/{TOKEN} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\ncanary\r\n".encode(),
            f"POST /callbacks/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\ncanary".encode(),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
            writer.write(request)
            writer.write_eof()
            async with asyncio.timeout(60):
                answers += await reader.read()
            writer.close()
        async with session.get(f"http://127.0.0.1:{one.admin_port}/metrics") as answer:
            answers += await answer.read()
        process.terminate()
        assert await process.wait() == 0
    said = answers.decode() + one.log.read_text()
    assert "canary" not in said
    assert TOKEN not in said
    assert "Traceback" not in said
    assert "receiver_started" in said
    assert '"status":200' in said


async def test_two_receivers_never_share_a_journal(tmp_path: Path) -> None:
    one = Process(tmp_path)
    async with started(one):
        other = Process(tmp_path)
        assert await other.ends() == 75
        assert "journal_not_opened" in other.log.read_text()


async def test_a_port_that_is_taken_is_said_and_tried_again_later(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        one = Process(tmp_path, RECEIVER_PORT=str(taken.getsockname()[1]))
        assert await one.ends() == 75
    assert "cannot listen on 127.0.0.1:" in one.log.read_text()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"RECEIVER_PORT": "canary"}, "RECEIVER_PORT: "),
        ({"RECEIVER_MERCHANTS_FILE": "/nowhere/merchants.toml"}, "/nowhere/merchants.toml"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_PASSWORD": "canary"}, "KAFKA_SASL_USERNAME"),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CAFILE": "/nowhere/ca.pem"}, "KAFKA_"),
        ({"KAFKA_SECURITY_PROTOCOL": "canary"}, "KAFKA_SECURITY_PROTOCOL: "),
    ],
)
async def test_a_wrong_setting_is_said_without_its_value_and_ends_with_2(
    tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    one = Process(tmp_path, **environment)
    assert await one.ends() == 2
    assert said in one.log.read_text()
    assert "canary" not in one.log.read_text()
    assert "Traceback" not in one.log.read_text()
