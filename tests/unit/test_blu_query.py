"""The client of Blu's query against the simulator's, over real HTTP; and what a comparison makes of the answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import pytest
from aiohttp import web
from pydantic import ValidationError

from ops.blu.bodies import Callback, callbacks
from ops.blu.client import PATH, BluAway, BluClient, BluRefused, Pace
from ops.blu.queries import APP_ID, Queries
from ops.reconciling.compare import Comparison
from ops.reconciling.held import Held
from schemas.backoff import Backoff
from schemas.event import event_id
from schemas.merchants import Query, load_merchants

KEY = "made-up-key"
QUICK = Backoff(first_s=0.001, most_s=0.002)


def made(count: int, task: str = "77") -> list[Callback]:
    """Calls, all of one task; several of one contact are among them."""
    made_up = callbacks(3, date(2026, 11, 24), ZoneInfo("Asia/Kuala_Lumpur"), count)
    return [replace(callback, task_id=task) for callback in made_up]


def named(callback: Callback, merchant: str = "demo") -> str:
    return event_id(merchant, callback.task_id, callback.record_id, callback.canonical)


@asynccontextmanager
async def asking(
    queries: Queries, *, key: str = KEY, page_size: int = 10, rate: float = 1_000_000
) -> AsyncIterator[BluClient]:
    async with queries.serving() as url, aiohttp.ClientSession() as session:
        query = Query(url=url, app_id=APP_ID, app_key=KEY)  # type: ignore[arg-type]
        yield BluClient(session, query, key, Pace(rate), page_size=page_size, backoff=QUICK)


async def everything(client: BluClient, task: str = "77") -> list[list[Any]]:
    return [page async for page in client.pages(task)]


@pytest.mark.parametrize(("count", "pages"), [(0, 0), (9, 1), (10, 1), (11, 2), (40, 4)])
async def test_pages_are_asked_for_until_one_is_empty(count: int, pages: int) -> None:
    queries = Queries(KEY)
    for callback in made(count):
        queries.add(callback)
    async with asking(queries) as client:
        found = await everything(client)
    assert [len(page) for page in found] == [10] * (count // 10) + [count % 10] * (count % 10 > 0)
    assert (len(found), queries.calls) == (pages, pages + 1), "a page that is not full may not be the last one"


async def test_what_the_query_says_has_the_event_id_of_its_callback() -> None:
    queries, calls = Queries(KEY), made(500)
    for callback in calls:
        queries.add(callback)
    held = Held()
    for callback in calls:
        held.events[named(callback)] = callback.record_id
    query = Query(url="https://blu.example", app_id=APP_ID, app_key=KEY)  # type: ignore[arg-type]
    comparison = Comparison("demo", "77", held, query.only_in_query)
    async with asking(queries) as client:
        async for page in client.pages("77"):
            assert all({"jobId", "taskId"} <= record.keys() for record in page)
            comparison.take(page)
    counts = {"same": len(held.events), "missing": 0, "different": 0, "extra": 0, "unreadable": 0}
    assert comparison.result().counts() == counts
    assert len(held.events) > 450  # in one task some of 500 calls say the same, and are one result


async def test_a_wrong_signature_is_refused_and_not_tried_again() -> None:
    queries = Queries(KEY)
    async with asking(queries, key="wrong") as client:
        with pytest.raises(BluRefused, match="4001"):
            await everything(client)
    assert queries.calls == 1


async def test_faults_are_tried_again_and_come_to_an_end() -> None:
    queries = Queries(KEY)
    queries.add(made(1)[0])
    async with asking(queries) as client:
        queries.faults.extend((503, 429, 500, 408))
        assert len(await everything(client)) == 1
        assert queries.calls == 4 + 2
        queries.faults.extend([503] * 100)
        with pytest.raises(BluAway, match="503"):
            await everything(client)
        assert queries.calls == 6 + 6
        queries.faults.clear()
        queries.faults.append(403)
        with pytest.raises(BluRefused, match="403"):
            await everything(client)


async def test_nobody_there_is_said() -> None:
    async with aiohttp.ClientSession() as session:
        query = Query(url="http://127.0.0.1:1", app_id=APP_ID, app_key=KEY)  # type: ignore[arg-type]
        client = BluClient(session, query, KEY, Pace(1_000), backoff=QUICK)
        with pytest.raises(BluAway, match="Connect"):
            await everything(client)


async def test_calls_keep_a_polite_pace() -> None:
    queries = Queries(KEY)
    for callback in made(100):
        queries.add(callback)
    begun = time.monotonic()
    async with asking(queries, rate=50) as client:
        await everything(client)
    assert time.monotonic() - begun >= 10 / 50


@asynccontextmanager
async def strange(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[BluClient]:
    app = web.Application()
    app.router.add_post(PATH, answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession() as session:
            query = Query(url=url, app_id=APP_ID, app_key=KEY)  # type: ignore[arg-type]
            yield BluClient(session, query, KEY, Pace(1_000), backoff=QUICK)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"code":2000,"data":{"records":{}}}',
        b'{"code":500,"message":"no"}',
        b"[" * 100_000,
        b'{"code":2000,"records":[{"id":1,"id":2}]}',
        b'{"code":2000,"records":[{"id":1}]}',  # whatever page is asked for
    ],
)
async def test_an_answer_without_results_is_a_refusal_and_never_an_end(body: bytes) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body)

    async with strange(answer) as client:
        with pytest.raises(BluRefused):
            await everything(client)


async def test_a_redirect_is_not_followed_with_our_signature() -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})

    async with strange(answer) as client:
        with pytest.raises(BluRefused, match="302"):
            await everything(client)


@pytest.mark.parametrize("form", [b'{"code":2000,"data":%b}', b'{"code":"2000","data":{"records":%b}}'])
async def test_results_are_found_where_they_may_be_and_with_blus_own_defects(form: bytes) -> None:
    async def answer(request: web.Request) -> web.Response:
        first = (await request.json())["pageNo"] == 1
        return web.Response(body=form % (b'[{"id": 5. "extVars": "{"a": 1.50}"}]' if first else b"[]"))

    async with strange(answer) as client:
        ((record,),) = await everything(client)
    comparison = Comparison("demo", "77", Held(), ())
    comparison.take([record])
    (event,) = comparison.result().missing
    assert bytes(event.result) == b'{"extVars":{"a":1.50},"id":5}'
    assert event.source == "reconcile"


def compared(held: dict[str, str], *records: Any) -> Any:
    known = Held(events=dict(held))
    for event, record_id in held.items():
        known.records[record_id].append(event)
    comparison = Comparison("demo", "1", known, ("jobId",))
    comparison.take(records)
    return comparison.result()


def test_missing_is_only_what_storage_has_nothing_of() -> None:
    first, second = {"id": "a", "n": 1}, {"id": "a", "n": 2}
    same = event_id("demo", "1", "a", b'{"id":"a","n":1}')
    assert compared({}, first, second).counts()["missing"] == 2, "both never came"
    result = compared({same: "a"}, first | {"jobId": 9}, second)
    assert (result.counts()["same"], result.counts()["missing"]) == (1, 0)
    assert [held for _, held in result.different] == [[same]]


def test_extra_is_what_blu_knows_nothing_of() -> None:
    result = compared({"event-1": "a", "event-2": "b"}, {"id": "a"})
    assert (len(result.different), result.extra) == (1, ["event-2"])


def test_what_cannot_be_read_is_counted_and_spoils_nothing() -> None:
    deep: Any = {"id": 1}
    for _ in range(120):
        deep = {"id": 1, "deep": deep}
    result = compared({}, {"no": "id"}, 7, {"id": 1}, {"id": 1, "jobId": 8}, deep)
    assert (result.unreadable, [event.record_id for event in result.missing]) == (3, ["1"])


def test_the_merchants_file_says_how_to_ask(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("from-a-file\n")
    file = tmp_path / "merchants.toml"
    file.write_text(f'[acme.query]\nurl = "https://blu.example"\napp_id = "7"\napp_key_file = "{key}"\n')
    query = load_merchants(file)["acme"].query
    assert query is not None
    assert query.key() == "from-a-file"
    assert KEY not in repr(Query(url="https://blu.example", app_id="7", app_key=KEY))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "says",
    [
        {"url": "http://blu.example", "app_key": KEY},
        {"url": "http://127.0.0.1.evil.example", "app_key": KEY},
        {"url": "https://blu.example"},
        {"url": "https://blu.example", "app_key": KEY, "app_key_file": "/x"},
        {"url": "https://blu.example?x", "app_key": KEY},
    ],
)
def test_what_would_be_unsafe_or_unclear_is_refused(says: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Query.model_validate({"app_id": "7"} | says)
