"""A day on which Blu forgets some results and writes others in GBK: what to do, and whether all is there then."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as daytime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ops.blu.bodies import callbacks
from ops.blu.ledger import Ledger
from ops.blu.mishaps import Mishaps
from schemas import metrics
from tests.system.outside import COMMAND, Up, eventually

LOST, GARBLED, REPEATED = 0.01, 0.01, 0.02
ZONE = ZoneInfo("Asia/Kuala_Lumpur")
LAST = daytime(23, 57)
RULE = 'about = "GBK"\nencoding = "gbk"\n'


@dataclass(frozen=True)
class Expected:
    """What the simulator's seed says, made up here again: event ids of all, of what is lost, of what came in GBK."""

    everything: set[str]
    lost: set[str]
    garbled: set[str]
    tasks: tuple[str, ...]

    @property
    def readable(self) -> int:
        return len(self.everything) - len(self.lost) - len(self.garbled)


def expected(seed: int, day: date, count: int) -> Expected:
    """Work out what is to come. Two ledgers in memory: one gets all, one what is posted."""
    whole, posted = Ledger("demo"), Ledger("demo")
    made = list(callbacks(seed, day, ZONE, count))
    everything = {callback.number: whole.call(callback).event_id for callback in made}
    sent = list(Mishaps(LOST, GARBLED, seed).befall(made, posted, None))
    bodies = {callback.number: callback.body for callback in made}
    garbled = {everything[one.number] for one in sent if one.body != bodies[one.number]}
    lost = set(everything.values()) - {everything[one.number] for one in sent}
    return Expected(set(everything.values()), lost, garbled, tuple({callback.task_id: None for callback in made}))


class Day:
    """One run of the simulator against an `up`, in steps."""

    def __init__(self, up: Up, folder: Path, count: int, seed: int) -> None:
        self._up, self._folder, self._count, self._seed = up, folder, count, seed
        while datetime.now(ZONE).time() > LAST:  # the simulator starts later, and not on another day
            time.sleep(1)
        self.expected = expected(seed, datetime.now(ZONE).date(), count)
        self.took_s: dict[str, float] = {}
        self.balances = 0
        self._since = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        (folder / "gbk.toml").write_text(RULE)
        (folder / "tasks.txt").write_text("\n".join(self.expected.tasks))

    @contextmanager
    def simulated(self, rate: float, patience_s: float) -> Iterator[subprocess.Popen[str]]:
        """Post, and have the simulator wait until the sinks equal its ledger, what was never posted included."""
        words = ("simulate", "--count", self._count, "--rate", rate, "--seed", self._seed, "--query-port", 0)
        mishaps = ("--lost", LOST, "--garbled", GARBLED, "--repeats", REPEATED)
        options = ("--patience", patience_s, "--json", "--data", self._up.data)
        with (self._folder / "simulate.err").open("w") as said:
            command = [COMMAND, *(str(word) for word in (*words, *mishaps, *options))]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            assert process.stdout
            process.stdout.close()
            process.wait()

    def until_all_readable_is_stored(self, limit_s: float) -> None:
        """Wait until storage has what could be read at once."""
        begun, said = time.monotonic(), self._folder / "simulate.err"
        assert eventually(lambda: "Posted" in said.read_text(), limit_s), said.read_text()
        assert eventually(lambda: self._up.metric(metrics.JOURNAL_WAITING) == 0, limit_s)
        assert eventually(lambda: self.stored() == self.expected.readable, limit_s), self.stored()
        self.took_s["posted and stored"] = time.monotonic() - begun

    def stored(self) -> int:
        sql = "SELECT count(*) FROM dial_result WHERE task_id = ANY($1::text[])"
        return int(self._up.rows(sql, list(self.expected.tasks))[0][0])

    def command(self, *words: str, code: int = 0) -> Any:
        """Run a command with --json; return what it says."""
        begun = time.monotonic()
        run = [COMMAND, *words, "--json", "--data", str(self._up.data)]
        done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == code, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        self.took_s[" ".join(words[:2])] = time.monotonic() - begun
        return json.loads(done.stdout)

    def garbled(self) -> int:
        """Count what is open in the quarantine."""
        groups = self.command("quarantine", "list", "--since", self._since)
        assert {group["reason"] for group in groups} == {"not-utf8"}
        return sum(group["open"] for group in groups)

    def resubmitted(self) -> dict[str, Any]:
        """Mend what came in GBK."""
        rules = ("--rules", str(self._folder / "gbk.toml"))
        return dict(self.command("quarantine", "resubmit", *rules, "--since", self._since, "--yes"))

    def reconciled(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Ask the simulator's query, faster than one would ask Blu."""
        tasks = ("--tasks", str(self._folder / "tasks.txt"))
        return dict(self.command("reconcile", "--merchant", "demo", *tasks, "--rate", "1000", *words, code=code))

    def mended(self) -> set[str]:
        """Return the event ids that came out of the quarantine."""
        return {
            str(event_id)
            for (events,) in self._up.rows("SELECT event_ids FROM ops.quarantine_state")
            for event_id in events
        }

    def sources(self) -> dict[str, set[str]]:
        """Return the event ids in storage by where they came from."""
        sql = "SELECT source, event_id::text FROM dial_result WHERE task_id = ANY($1::text[])"
        rows = self._up.rows(sql, list(self.expected.tasks))
        found: dict[str, set[str]] = {"callback": set(), "reconcile": set()}
        for source, event_id in rows:
            found[source].add(event_id)
        return found

    def is_even(self) -> None:
        """See every callback, and every result of the hours since the day began, accounted for."""
        for hour in self._hours():
            told = self.command("report", "balance", "--hour", f"{hour:%Y-%m-%dT%H:00}")
            assert told["even"], {name: len(sheet["missing"]) for name, sheet in told["sinks"].items()}
            assert told["callbacks"]["lost"] == 0
            self.balances += 1

    def is_uneven_without(self, event_id: str) -> None:
        """Delete a row by hand, and see the balance say which."""
        (row,) = self._up.rows(
            "DELETE FROM dial_result WHERE event_id = $1::text::uuid RETURNING received_at", event_id
        )
        told = self.command("report", "balance", "--hour", f"{row['received_at']:%Y-%m-%dT%H:00}", code=1)
        missing = {name: sheet["missing"] for name, sheet in told["sinks"].items()}
        assert (told["even"], missing) == (False, {"storage": [event_id], "analytics": [], "crm": []})

    def _hours(self) -> list[datetime]:
        hour = datetime.fromisoformat(self._since).replace(minute=0, second=0)
        hours = [hour]
        while (hour := hour + timedelta(hours=1)) < datetime.now(UTC):
            hours.append(hour)
        return hours


def completes(up: Up, folder: Path, *, count: int, seed: int, rate: float, patience_s: float) -> Day:
    """Let such a day pass, mend it, and see every sink equal the simulator's ledger, even at every step."""
    day = Day(up, folder, count, seed)
    day.is_even()
    with day.simulated(rate, patience_s) as simulator:
        day.until_all_readable_is_stored(count / rate + patience_s)
        day.is_even()
        bodies = day.garbled()
        assert bodies >= len(day.expected.garbled), "Blu repeats what it wrote in GBK, too"
        looked = day.reconciled("--dry-run", code=1)
        assert looked["missing"] + looked["different"] == len(day.expected.lost) + len(day.expected.garbled)

        assert day.resubmitted()["published_results"] == bodies
        assert day.mended() == day.expected.garbled
        day.is_even()
        again = day.resubmitted()
        assert (again["published"], again["skipped"]) == (0, bodies)
        done = day.reconciled("--yes")
        assert (done["published"], done["different"], done["extra"]) == (len(day.expected.lost), 0, 0)
        day.is_even()

        out, _ = simulator.communicate(timeout=patience_s * 3)
    summary = json.loads(out)
    assert simulator.returncode == 0, (folder / "simulate.err").read_text()[-3000:]
    assert (summary["never_posted"], summary["garbled"]) == (len(day.expected.lost), len(day.expected.garbled))
    callback, reconciled = day.sources().values()
    assert (reconciled, callback) == (day.expected.lost, day.expected.everything - day.expected.lost)
    day.is_even()
    day.is_uneven_without(min(day.expected.everything))
    return day
