"""Queries of a leader and of the page cost no more in a larger ledger: counted in steps of SQLite."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from election.engines.file.ledger import SqliteLedger
from election.schedule.commands import Claim, FinishRun, RegisterJob
from election.schedule.model import Outcome, Tick
from tests.schedule.making import NOW, at, make_job, make_term, process

pytestmark = pytest.mark.anyio

FEW, MANY = 21_000, 60_000
"""Both more than a window reads at most."""
JOBS = 10
EVER = datetime(1970, 1, 1, tzinfo=UTC)
JOB = make_job("interval", seconds=1, start_date=at(-100))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def _begin_term(ledger: SqliteLedger) -> object:
    return await ledger.begin_term(make_term(2), process())


async def _claim_and_settle(ledger: SqliteLedger) -> object:
    tick = Tick("job-0", at(1))
    assert await ledger.record(1, [Claim(tick, at(1))]) == [True]
    return await ledger.record(1, [FinishRun(tick, Outcome.SUCCEEDED, at(1))])


QUESTIONS: dict[str, Callable[[SqliteLedger], Awaitable[object]]] = {
    "begin a term": _begin_term,
    "open runs": lambda ledger: ledger.open_runs(),
    "claim and settle": _claim_and_settle,
    "prune": lambda ledger: ledger.prune(EVER, 10),
    "totals": lambda ledger: ledger.totals(),
    "last outcomes": lambda ledger: ledger.last_outcomes(["job-0", "job-1"]),
    "overview": lambda ledger: ledger.overview(),
    "window": lambda ledger: ledger.window(EVER, NOW, 100),
    "runs": lambda ledger: ledger.runs(limit=10),
    "running": lambda ledger: ledger.runs(outcome="running", limit=10),
    "failed": lambda ledger: ledger.runs(outcome="failed", limit=10),
    "interrupted": lambda ledger: ledger.runs(outcome="interrupted", limit=10),
    "running, before": lambda ledger: ledger.runs(outcome="running", before=FEW, limit=10),
    "running, of a job, before": lambda ledger: ledger.runs(job_id="job-0", outcome="running", before=FEW, limit=10),
    "runs of a job": lambda ledger: ledger.runs(job_id="job-0", limit=10),
    "runs of a job that succeeded": lambda ledger: ledger.runs(job_id="job-0", outcome="succeeded", limit=10),
    "runs of a job, before": lambda ledger: ledger.runs(job_id="job-0", before=FEW // 2, limit=10),
    "skips": lambda ledger: ledger.skips(limit=10),
    "terms": lambda ledger: ledger.terms(limit=10),
}


@pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS)
async def test_p6_questions_take_no_longer_when_there_is_more_history(
    tmp_path: Path, ask: Callable[[SqliteLedger], Awaitable[object]]
) -> None:
    few, many = [await _steps(tmp_path / str(runs), runs, ask) for runs in (FEW, MANY)]
    assert many <= few * 1.2 + 500  # a window is found by bisection, in a few more steps


async def _ledger(path: Path, runs: int) -> SqliteLedger:
    ledger = SqliteLedger(str(path))
    await ledger.begin_term(make_term(1), process())
    await ledger.record(1, [RegisterJob(f"job-{number}", JOB.schedule, at=NOW, since=NOW) for number in range(JOBS)])
    await ledger.store.database.write(
        lambda connection: connection.execute(
            "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?)"
            " INSERT INTO runs (job_id, due, request, term, claimed_at, ended_at, outcome)"
            f" SELECT 'job-' || (n % {JOBS}), n, 0, 1, n, n, 'succeeded' FROM number",
            (runs,),
        )
    )
    return ledger


async def _steps(path: Path, runs: int, ask: Callable[[SqliteLedger], Awaitable[object]]) -> int:
    """Steps of SQLite's virtual machine for the query, the second time that the ledger is opened."""
    await (await _ledger(path, runs)).close()
    ledger = SqliteLedger(str(path))
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    await ledger.store.database.read(lambda connection: connection.set_progress_handler(step, 1))
    await ask(ledger)
    await ledger.close()
    return count
