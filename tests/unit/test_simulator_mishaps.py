"""What goes wrong on Blu's side: how much of it, the same every time, and what the ledger and the query know of it."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner

from ops.blu.bodies import Callback, callbacks
from ops.blu.ledger import Ledger
from ops.blu.mishaps import Mishaps, garbled
from ops.blu.queries import Queries
from ops.simulate import simulate
from ops.token import new_token, set_query
from schemas.blu import UnreadableCallback, decode_callback
from schemas.merchants import load_merchants

from .test_simulator_command import receiver
from .test_simulator_command import simulate as run_simulate


def made(count: int, seed: int = 9) -> list[Callback]:
    return list(callbacks(seed, date(2026, 11, 24), ZoneInfo("UTC"), count))


def test_shares_are_kept_and_are_the_same_every_time() -> None:
    calls = made(5_000)
    mishaps, ledger, queries = Mishaps(lost=0.02, garbled=0.01, seed=4), Ledger("demo"), Queries("key")
    posted = list(mishaps.befall(calls, ledger, queries))
    assert posted == list(Mishaps(lost=0.02, garbled=0.01, seed=4).befall(calls, Ledger("demo"), None))
    assert mishaps.times_lost == 5_000 - len(posted)
    assert 50 <= mishaps.times_lost <= 160
    assert 45 <= mishaps.times_garbled <= 50
    originals = {callback.number: callback for callback in calls}
    changed = [one for one in posted if one != originals[one.number]]
    assert len(changed) == mishaps.times_garbled
    for callback in changed:
        assert callback.body.decode("gbk").encode() == originals[callback.number].body
        with pytest.raises(UnreadableCallback, match="not-utf8"):
            decode_callback(callback.body)
    lost = {(c.task_id, c.record_id) for c in calls} - {(c.task_id, c.record_id) for c in posted}
    assert {(entry.task_id, entry.record_id) for entry in ledger.promised()} == lost, "a contact in a task as a whole"
    assert sum(map(len, queries._tasks.values())) == 5_000


def test_nothing_befalls_unless_it_is_asked_for() -> None:
    calls, mishaps = made(100), Mishaps()
    assert list(mishaps.befall(calls, Ledger("demo"), None)) == calls


def test_what_gbk_cannot_say_stays_as_it_is() -> None:
    assert garbled(b'{"plain":1}') is None
    assert garbled('{"name":"فاطمة"}'.encode()) is None
    assert garbled('{"name":"陈"}'.encode()) == b'{"name":"\xb3\xc2"}'


async def test_the_command_answers_queries_and_counts_what_it_did(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    shares = ("--lost", "0.05", "--garbled", "0.05", "--query-port", "0")
    async with receiver(200) as (url, _):
        to = ("--url", url, "--no-compare", "--ledger", f"{ledger}", "--count", "400", "--rate", "4000", "--seed", "4")
        code, out, err = await run_simulate(*to, *shares, "--json")
    summary = json.loads(out)
    assert code == 0, err
    assert "Answering http://127.0.0.1:" in err
    assert summary["posted"] + summary["never_posted"] == 400
    assert 15 <= summary["garbled"] <= 20
    assert ledger.read_text().count('"by-query"') == summary["never_posted"] > 0


def test_what_nobody_could_tell_is_not_lost() -> None:
    refused = CliRunner().invoke(simulate, ["--lost", "0.1"])
    assert (refused.exit_code, "--query-port" in refused.output) == (2, True)


def test_the_merchants_file_is_told_and_keeps_its_tokens(tmp_path: Path) -> None:
    file = tmp_path / "merchants.toml"
    new_token(file, "demo")
    for port in (1, 2):
        set_query(file, "demo", f"http://127.0.0.1:{port}", "simulator", "made-up")
    merchant = load_merchants(file)["demo"]
    assert merchant.query
    assert (merchant.query.url, merchant.query.key(), len(merchant.tokens)) == ("http://127.0.0.1:2", "made-up", 1)
