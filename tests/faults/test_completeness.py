"""100,000 results, of which Blu forgets 1 % and writes 1 % in GBK, 2 % posted twice: all are in every sink in the end.

`FAULTS_COMPLETENESS` is the number of results, `FAULTS_COMPLETENESS_RATE` how many a second.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.system.completeness import completes
from tests.system.outside import running

COUNT = int(os.environ.get("FAULTS_COMPLETENESS", "100000"))
RATE = float(os.environ.get("FAULTS_COMPLETENESS_RATE", "1000"))


@pytest.mark.faults
@pytest.mark.timeout(1_800)
def test_after_reconcile_and_resubmit_all_sinks_equal_the_ledger(tmp_path: Path) -> None:
    with running(tmp_path / "data") as up:
        day = completes(up, tmp_path, count=COUNT, seed=62, rate=RATE, patience_s=400)
    wanted = day.expected
    print(f"\n{COUNT:,} results: {len(wanted.lost):,} never posted, {len(wanted.garbled):,} in GBK; every sink has all")
    print(f"even at {day.balances} balances, and uneven once a row was deleted by hand")
    print(", ".join(f"{step} {seconds:.0f} s" for step, seconds in day.took_s.items()))
