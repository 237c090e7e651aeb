"""Reads of a pool's jobs on SQLite use an index, and read no more rows when there are more jobs."""

from __future__ import annotations

from pathlib import Path
from sqlite3 import connect

import pytest

from election.engines.file.ledger import SqliteLedger
from election.schedule.model import NewJob, StoredJob
from tests.costs.counting import Statements
from tests.schedule.making import make_job

pytestmark = [pytest.mark.anyio, pytest.mark.extended]

DAILY = make_job("interval", days=1).schedule


async def test_no_view_reads_all_jobs(tmp_path: Path) -> None:
    ledger = SqliteLedger(str(tmp_path / "ledger.db"))
    with Statements().counted() as statements:
        await ledger.store_jobs([NewJob(name, DAILY, StoredJob("module:function")) for name in "abc"])
        del statements.transactions[:]
        await ledger.overview(1)
        await ledger.search_jobs(after="a")
        await ledger.last_outcomes(["a", "b"])
    await ledger.close()
    selects = {
        each for part in statements.transactions for each in part if each.startswith("SELECT") and "jobs" in each
    }
    assert len(selects) == 8
    with connect(tmp_path / "ledger.db") as connection:
        plans = {each: [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")] for each in selects}
    for select, plan in plans.items():
        in_order = "LIMIT" in select and not any("TEMP B-TREE" in step for step in plan)
        scans = [step for step in plan if step.startswith("SCAN jobs")]
        assert all("COVERING INDEX" in step or ("INDEX" in step and in_order) for step in scans), (select, plan)
