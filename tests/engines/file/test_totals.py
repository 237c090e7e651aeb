"""What a ledger of an earlier schema counts when it is brought up to date."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from election.engines.file import schema
from election.engines.file.ledger import SqliteLedger
from election.engines.sql.totals import read_totals
from election.schedule.history import Totals
from election.schedule.model import Action, Claim, FinishRun, Outcome, RegisterJob, Tick
from tests.engines.conformance.test_totals import run, skip
from tests.schedule.making import NOW, at, make_job, make_term, process

pytestmark = pytest.mark.anyio

SECONDS = make_job("interval", seconds=1, start_date=at(-100))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_former_ledger_is_counted_when_its_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    """To the same figures that counting from its beginning has."""
    ledger = SqliteLedger(str(tmp_path / "counted.db"))
    await ledger.begin_term(make_term(1), process())
    await ledger.record(1, [RegisterJob("job", SECONDS.description, at=NOW, since=NOW)])
    await ledger.confirm_term(1, 7)
    request = await ledger.request(Action.RUN, job_id="job")
    asked_for = Tick("job", at(9), request)
    await ledger.record(1, run(1, late=0.2) + run(2, outcome=Outcome.FAILED) + run(3, outcome=Outcome.INTERRUPTED))
    await ledger.record(1, [skip(4, 6), replace(skip(7, 900), count=None), Claim(Tick("job", at(901)), at(901))])
    await ledger.record(1, [Claim(asked_for, at(9)), FinishRun(asked_for, Outcome.SUCCEEDED, at(10))])
    counted = await ledger.totals()
    await ledger.close()

    assert await asyncio.to_thread(_migrated, str(tmp_path / "counted.db")) == counted


def _migrated(path: str) -> Totals:
    """What a ledger of the schema before has counted after its migration, with the history that ``path`` has."""
    former = sqlite3.connect(":memory:", isolation_level=None)
    for step in schema._STEPS[:2]:
        for statement in schema._statements(step):
            former.execute(statement)
    former.execute("PRAGMA user_version=2")
    former.execute("ATTACH ? AS counted", (path,))
    for table in ("terms", "runs", "skips"):
        columns = ", ".join(row[1] for row in former.execute(f"PRAGMA main.table_info({table})"))
        former.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM counted.{table}")
    former.execute("DETACH counted")
    schema.migrate(former)
    found = read_totals(former)
    former.close()
    return replace(found, jobs=["job"])  # which it was not given
