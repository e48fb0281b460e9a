"""One `dial-results up`, seen from outside: what goes in is found, once, in every sink, whatever fails meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import pytest
from aiokafka import ConsumerRecord

from tests.system.completeness import completes
from tests.system.outside import (
    COMMAND,
    Up,
    ask,
    callback,
    effects,
    eventually,
    once_everywhere,
    part,
    running,
)

DOCUMENTED = (Path(__file__).parents[1] / "unit" / "data" / "documented-body.txt").read_bytes()
SUCCESS = b'{"code":200,"message":"success"}'
PARTS = ("kafka", "postgres", "sandbox-crm", "receiver", "storage", "analytics", "crm")
HELD_S = 5  # the issue says a minute; seconds show the same
CANARY = "Zebediah Quillfeather"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running(tmp_path_factory.mktemp("up") / "data") as started:
        yield started


@pytest.fixture
def task() -> str:
    return str(uuid.uuid4().int % 10**12)


def post_all(up: Up, task: str, records: list[str]) -> list[float]:
    """Post one callback a record, four at a time; return how long each took."""
    url = up.json["callback_url"]

    def post(record: str) -> float:
        began = time.monotonic()
        answer = ask(url, callback(task, record, name=CANARY))
        assert (answer.status, answer.body) == (200, SUCCESS)
        return time.monotonic() - began

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(post, records))


def test_the_documented_callback_is_in_all_three_sinks(up: Up) -> None:
    assert "there, once" in up.said
    assert "curl -H" in up.said
    assert up.json["callback_url"] in up.said
    once_everywhere(up, "66635573", ["55667448"])
    contact = ask(up.json["crm_url"] + "/contacts/demo:55667448")
    assert contact.status == 200


def test_up_json_says_all_and_to_its_owner_alone(up: Up) -> None:
    keys = """merchant token callback_url receiver_admin_url kafka_bootstrap_servers postgres_dsn analytics_uri crm_url
              topics pids logs java kafka_classpath"""
    told = up.json
    assert set(keys.split()) <= set(told)
    assert set(told["pids"]) == set(told["logs"]) == set(PARTS)
    assert told["callback_url"].endswith("/callbacks/" + told["token"])
    assert all(Path(f"/proc/{pid}").exists() for pid in told["pids"].values())
    assert (up.data / "up.json").stat().st_mode & 0o777 == 0o600


def test_the_event_as_kafkas_own_console_consumer_shows_it(up: Up) -> None:
    told = up.json
    options = ("--from-beginning", "--max-messages", "1", "--timeout-ms", "120000")
    keys = ("--formatter-property", "print.key=true")
    consumer = (told["java"], "-cp", told["kafka_classpath"], "org.apache.kafka.tools.consumer.ConsoleConsumer")
    where = ("--bootstrap-server", told["kafka_bootstrap_servers"], "--topic", "dial-results")
    headers = ("--formatter-property", "print.headers=true")
    shown = subprocess.run((*consumer, *where, *options, *keys, *headers), capture_output=True, text=True, check=False)
    line = next(line for line in shown.stdout.splitlines() if "demo:55667448" in line)
    said_headers, key, value = line.split("\t")
    event, headers_by_name = json.loads(value), dict(pair.split(":", 1) for pair in said_headers.split(","))
    assert key == "demo:55667448"
    assert (event["merchant"], event["taskId"], event["recordId"]) == ("demo", "66635573", "55667448")
    assert event["result"]["extVars"] == {"key": "string", "intkey": 10000}
    assert event["result"]["callVars"] == {"name": "Bob", "salary": 10000}
    assert event["source"] == "callback"
    assert headers_by_name == {
        "ce_specversion": "1.0",
        "ce_id": event["eventId"],
        "ce_type": "blu.dial-result",
        "ce_source": "/merchants/demo",
        "ce_subject": "66635573/55667448",
        "ce_time": event["receivedAt"],
        "content-type": "application/json",
    }


def test_the_same_body_six_times_is_one_result(up: Up, task: str) -> None:
    body = DOCUMENTED.replace(b"66635573", task.encode())
    for _ in range(6):
        answer = up.post(body)
        assert (answer.status, answer.body) == (200, SUCCESS)
        assert answer.headers["Content-Type"] == "application/json"
    eventually(lambda: up.metric("dial_results_receiver_journal_waiting_callbacks") == 0)
    once_everywhere(up, task, ["55667448"])
    post_all(up, task, ["behind-the-six"])  # when this one is there, the six are through
    once_everywhere(up, task, ["55667448", "behind-the-six"])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (bytes(range(256)), b"not-utf8"),
        (DOCUMENTED[:100], b"not-json"),
        (b'{"taskId": "\xff\xfe", "records": []}', b"not-utf8"),
        (b"[" * 100_000, None),
    ],
    ids=["random-bytes", "truncated", "invalid-utf8", "brackets"],
)
def test_what_cannot_be_read_is_kept_as_it_came(up: Up, body: bytes, reason: bytes | None) -> None:
    marked = body + uuid.uuid4().hex.encode()  # so that each run finds its own
    answer = up.post(marked)
    assert (answer.status, answer.body) == (200, SUCCESS)

    def quarantined() -> list[ConsumerRecord]:
        return [record for record in up.records("dial-results.quarantine") if record.value == marked]

    kept = eventually(quarantined)
    assert len(kept) == 1
    headers = dict(kept[0].headers)
    assert headers["merchant"] == b"demo"
    assert headers["reason"] == reason if reason else headers["reason"]


def test_no_records_are_taken_and_counted(up: Up, task: str) -> None:
    name = "dial_results_receiver_callbacks_empty_total"
    before = up.metric(name)
    assert up.post(f'{{"taskId": {task}, "records": []}}'.encode()).status == 200
    assert eventually(lambda: up.metric(name) == before + 1)


def test_every_miss_is_answered_alike(up: Up) -> None:
    url = up.json["callback_url"]
    misses = [
        ask(url[:-1] + ("A" if url[-1] != "A" else "B"), DOCUMENTED),
        ask(url, method="GET"),
        ask(url.replace("callbacks", "elsewhere"), DOCUMENTED),
        ask(url + "/more", DOCUMENTED),
    ]
    assert {answer.status for answer in misses} == {404}
    assert len({answer.body for answer in misses}) == 1
    alike = [{name: value for name, value in answer.headers.items() if name != "Date"} for answer in misses]
    assert all(headers == alike[0] for headers in alike)


def test_a_body_over_the_cap_is_refused(up: Up) -> None:
    assert up.post(b" " * 1_000_001).status == 413
    assert up.post(b" " * 1_000_000).status == 200  # unreadable, but taken


def test_the_broker_killed_and_held_down(up: Up, task: str) -> None:
    records = [str(number) for number in range(300)]
    post_all(up, task, records[:100])
    up.part("kill", "kafka")
    assert up.json["pids"]["kafka"] is None
    until = time.monotonic() + HELD_S
    during = post_all(up, task, records[100:200])
    while time.monotonic() < until:
        during += post_all(up, task, records[190:200])  # Blu's repeats
    assert median(during) < 1, "nobody waited for the broker"
    up.part("start", "kafka")
    post_all(up, task, records[200:])
    once_everywhere(up, task, records)


def test_the_receiver_killed_with_a_backlog(up: Up, task: str) -> None:
    records = [str(number) for number in range(200)]
    up.part("stop", "kafka")
    post_all(up, task, records[:100])
    killed = up.json["pids"]["receiver"]
    os.kill(killed, signal.SIGKILL)
    assert eventually(lambda: up.json["pids"]["receiver"] not in (None, killed))
    eventually(lambda: _answers(up.json["receiver_admin_url"] + "/readyz"))
    post_all(up, task, records[100:])
    up.part("start", "kafka")
    once_everywhere(up, task, records)


def test_the_receiver_starts_and_acknowledges_without_a_broker(up: Up, task: str) -> None:
    up.part("stop", "kafka")
    up.part("stop", "receiver")
    assert not _answers(up.json["receiver_admin_url"] + "/healthz")
    up.part("start", "receiver")
    post_all(up, task, ["1", "2", "3"])
    assert effects(up, task) == ({}, {}, {})
    up.part("start", "kafka")
    once_everywhere(up, task, ["1", "2", "3"])


@pytest.mark.parametrize("name", ["storage", "analytics", "crm"])
def test_a_consumer_killed_amid_events(up: Up, task: str, name: str) -> None:
    records = [str(number) for number in range(1_500)]
    killed = up.json["pids"][name]
    with ThreadPoolExecutor(1) as pool:
        posting = pool.submit(post_all, up, task, records)
        sink = ("storage", "analytics", "crm").index(name)
        eventually(lambda: effects(up, task)[sink])
        os.kill(killed, signal.SIGKILL)
        posting.result()
    assert eventually(lambda: up.json["pids"][name] not in (None, killed))
    once_everywhere(up, task, records, limit_s=240)


@pytest.mark.parametrize(("place", "held"), [("postgres", "storage"), ("sandbox-crm", "crm")])
def test_a_sink_held_down_is_waited_for(up: Up, task: str, place: str, held: str) -> None:
    up.part("stop", place)
    post_all(up, task, ["1", "2"])
    pid = up.json["pids"][held]
    up.part("start", place)
    once_everywhere(up, task, ["1", "2"])
    assert up.json["pids"][held] == pid


def test_a_part_that_dies_is_reported_with_its_last_lines_and_restarted(up: Up) -> None:
    pid = up.json["pids"]["sandbox-crm"]
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: up.json["pids"]["sandbox-crm"] not in (None, pid))
    assert "sandbox-crm was killed by SIGKILL and is restarted" in up.said
    assert "logs/sandbox-crm.log:\n  | " in up.said


def test_parts_are_known_by_name(up: Up) -> None:
    unknown = part(up.data, "stop", "zookeeper")
    assert unknown.returncode == 2
    assert all(name in unknown.stderr for name in PARTS)


def test_only_one_up_at_a_time(up: Up) -> None:
    second = subprocess.run((COMMAND, "up", "--data", str(up.data)), capture_output=True, text=True, check=False)
    assert second.returncode == 75
    assert f"pid {up.process.pid}" in second.stderr


def test_simulate_finds_every_promise_kept(up: Up) -> None:
    command = (COMMAND, "simulate", "--count", "500", "--rate", "250", "--patience", "240", "--data", str(up.data))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr


def test_nobody_and_no_token_is_named_in_any_log(up: Up) -> None:
    told = up.json
    logs = {name: Path(log).read_text(errors="replace") for name, log in told["logs"].items()}
    secrets = [told["token"], CANARY, "salary", told["postgres_dsn"].split(":")[2].partition("@")[0], "Traceback"]
    assert {name: word for name, log in logs.items() for word in secrets if word in log} == {}


def _answers(url: str) -> bool:
    try:
        return ask(url).status == 200
    except OSError:
        return False


def test_what_blu_forgot_and_what_it_garbled_is_in_every_sink_in_the_end(up: Up, tmp_path: Path) -> None:
    """A hundred times as many: `tests/faults/test_completeness.py`."""
    completes(up, tmp_path, count=1_000, seed=61, rate=400, patience_s=180)
