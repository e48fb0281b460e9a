"""The receiver's small parts: answers, the retry window, the access log, backoff, what is counted and shown."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from receiver.access_log import AccessLog
from receiver.answers import ACKNOWLEDGED, ANSWERS, BAD_REQUEST, BUG, answer_for, render
from receiver.errors import BodyTooLarge, NotFound, Refused
from receiver.journal import JournalError, JournalFull
from receiver.recent import Recent
from receiver.retry_window import CLEAR, RetryWindow
from schemas import metrics as names
from schemas.backoff import Backoff
from schemas.quiet import NoText, OnceAMinute, report_stray, report_uncaught
from tests.unit.receivers import running


def leaves(kind: type[Exception]) -> Iterator[type[Exception]]:
    children = kind.__subclasses__()
    if not children:
        yield kind
    for child in children:
        yield from leaves(child)


class ManualClock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_every_error_has_its_answer() -> None:
    assert set(ANSWERS) == {*leaves(Refused), *leaves(JournalError)}


def test_nothing_but_the_journal_answers_200_and_nothing_answers_429() -> None:
    statuses = {answer.status for answer in (*ANSWERS.values(), BAD_REQUEST, BUG)}
    assert statuses == {400, 404, 408, 413, 503}
    assert ACKNOWLEDGED.status == 200


def test_causes_are_one_to_one_so_that_metrics_tell_them_apart() -> None:
    causes = [answer.cause for answer in (*ANSWERS.values(), BAD_REQUEST, BUG)]
    assert len(set(causes)) == len(causes)


@pytest.mark.parametrize("answer", [*ANSWERS.values(), BAD_REQUEST, BUG])
def test_503_says_when_to_come_again(answer: object) -> None:
    assert (b"Retry-After: 60" in render(answer, 0)) == (answer.status == 503)


def test_the_acknowledgement_byte_for_byte() -> None:
    assert render(ACKNOWLEDGED, 1_795_513_596.9) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 32\r\n"
        b'Date: Tue, 24 Nov 2026 09:46:36 GMT\r\n\r\n{"code":200,"message":"success"}'
    )
    assert b"\r\nConnection: close\r\n" in render(ACKNOWLEDGED, 0, close=True)
    assert render(ACKNOWLEDGED, 0, head=True).endswith(b"GMT\r\n\r\n")


def test_an_error_without_an_answer_is_not_answered_by_accident() -> None:
    class Unheard(Refused):
        pass

    with pytest.raises(KeyError):
        answer_for(Unheard())
    del Unheard
    import gc  # noqa: PLC0415  # the test above counts the subclasses that exist

    gc.collect()


class TestRetryWindow:
    def test_the_clock_starts_at_the_first_refusal(self) -> None:
        clock = ManualClock()
        window = RetryWindow(clock)
        assert window.seconds_to_loss() == CLEAR
        window.refused()
        assert window.seconds_to_loss() == 25 * 60
        clock.now += 60
        window.refused()
        assert window.seconds_to_loss() == 24 * 60

    def test_a_full_slot_without_refusals_clears_it(self) -> None:
        clock = ManualClock()
        window = RetryWindow(clock)
        window.refused()
        clock.now += 299
        assert window.seconds_to_loss() == 25 * 60 - 299
        clock.now += 1
        assert window.seconds_to_loss() == CLEAR
        window.refused()
        assert window.seconds_to_loss() == 25 * 60

    def test_a_stretch_to_the_end_of_the_retries_counts_once_as_possibly_lost(self) -> None:
        clock = ManualClock()
        window = RetryWindow(clock)
        for _ in range(25):
            window.refused()
            clock.now += 60
        assert window.possibly_lost == 0
        assert window.seconds_to_loss() == 0
        for _ in range(10):
            window.refused()
            clock.now += 60
        assert window.possibly_lost == 1
        clock.now += 300
        window.refused()
        assert window.possibly_lost == 1
        clock.now += 0.5
        assert window.seconds_to_loss() == 25 * 60 - 0.5

    def test_an_outage_just_shorter_than_the_retries_loses_nothing(self) -> None:
        clock = ManualClock()
        window = RetryWindow(clock)
        window.refused()
        for _ in range(4):
            clock.now += 299
            window.refused()
        clock.now += 1_000
        assert window.possibly_lost == 0


class TestAccessLog:
    def test_refused_requests_have_a_line_and_acknowledged_ones_only_if_asked_for(self) -> None:
        with capture_logs() as logs:
            AccessLog("refused", ManualClock()).acknowledged("demo", 10, 0.001)
            AccessLog("refused", ManualClock()).refused(answer_for(JournalFull()), "demo", 10, 0.0015)
            AccessLog("all", ManualClock()).acknowledged("demo", 10, 0.001)
        assert [line["status"] for line in logs] == [503, 200]
        assert logs[0] == {
            "event": "request",
            "log_level": "info",
            "route": "callback",
            "merchant": "demo",
            "bytes": 10,
            "ms": 1.5,
            "status": 503,
            "cause": "journal-full",
        }

    def test_a_flood_is_counted_not_written(self) -> None:
        clock = ManualClock()
        access_log = AccessLog("refused", clock)
        with capture_logs() as logs:
            for _ in range(1_000):
                access_log.refused(answer_for(NotFound()), None, 0, 0.0)
            clock.now += 1
            access_log.refused(answer_for(NotFound()), None, 0, 0.0)
        assert len(logs) == 21
        assert logs[-1]["lines_left_out"] == 980


def test_backoff_grows_to_its_bound_with_jitter() -> None:
    waits = [Backoff(first_s=0.1, most_s=2).wait_s(failures) for failures in (*range(1, 60), 5_000)]
    assert 0.05 <= waits[0] <= 0.1
    assert all(1 <= wait <= 2 for wait in waits[10:])
    assert len(set(waits)) > 10


def test_recent_ids_have_a_bound() -> None:
    recent = Recent(half=100)
    assert recent.repeats([b"first", b"second", b"first"]) == 1
    assert recent.repeats([b"first", b"third"]) == 1
    for number in range(1_000):
        assert recent.repeats([b"%d" % number]) == 0
        assert recent.repeats([b"%d" % number, b"%d" % (number - 50)]) == 1 + (number >= 50)
    assert recent.repeats([b"first"]) == 0
    assert len(recent._young) + len(recent._old) <= 200


class TestQuiet:
    def record(self, message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
        info = (type(error), error, error.__traceback__) if error else None
        return logging.LogRecord("aiohttp.server", logging.ERROR, "x.py", 1, message, args, info)

    def test_what_aiohttp_says_holds_nothing_of_the_request(self) -> None:
        record = self.record("Error handling request %s", "canary", error=ValueError("canary"))
        assert NoText().filter(record)
        text = logging.Formatter().format(record)
        assert "canary" not in text
        assert "ValueError" in text

    def test_the_same_message_passes_once_a_minute(self) -> None:
        clock = ManualClock()
        quiet = OnceAMinute(clock)
        passed = []
        for _ in range(100):
            passed.append(quiet.filter(self.record("Unable connect to %s", "a")))
            clock.now += 1
        assert passed.count(True) == 2
        assert quiet.filter(self.record("Something else"))

    async def test_stray_and_uncaught_exceptions_are_told_by_type_and_place(self) -> None:
        with capture_logs() as logs:
            try:
                raise ExceptionGroup("canary", [ValueError("canary")])  # noqa: TRY301
            except ExceptionGroup as group:
                report_uncaught(type(group), group, None)
            report_stray(asyncio.get_running_loop(), {"message": "canary", "exception": KeyError("canary")})
        assert [(line["event"], line["error"]) for line in logs] == [
            ("process_ends", "ValueError"),
            ("stray_exception", "KeyError"),
        ]
        assert "canary" not in str(logs)


async def test_every_metric_of_the_receiver_is_shown_and_no_other(tmp_path: Path) -> None:
    expected = {
        value for name, value in vars(names).items() if name.isupper() and value.startswith("dial_results_receiver_")
    }
    async with running(tmp_path) as one:
        await one.post(b"not json")
        await one.post(b"x" * 100, token="wrong")
        answer = await one.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", admin=True)
    shown = {family.name for family in text_string_to_metric_families(answer.body.decode())}
    assert shown == expected


def test_what_may_be_refused_for_ever_does_not_run_the_clock() -> None:
    assert not answer_for(BodyTooLarge()).retried
    assert not answer_for(NotFound()).retried
    assert all(answer.retried for answer in ANSWERS.values() if answer.status == 503)


def test_the_listed_errors_are_in_the_tree_of_the_docstring() -> None:
    text = (Path(__file__).parents[2] / "receiver" / "errors.py").read_text()
    drawn = set(re.findall(r"[├└]── (\w+)", text))
    assert drawn == {kind.__name__ for kind in leaves(Refused)}
