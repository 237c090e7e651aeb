"""Use of a ledger in which one value is unreadable, as after a mistake by hand or from a newer version."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from election.core.errors import LedgerError
from election.core.term import Standing
from election.schedule.commands import Claim, DescribeJob, FinishRun, RecordLog, RegisterJob, RetireJob, Retry, Skip
from election.schedule.history import RunRow
from election.schedule.ledger import Ledger
from election.schedule.model import Action, JobInfo, NewJob, Outcome, RunLog, SkipReason, StoredJob, Tick
from election.schedule.verify import verify
from tests.schedule.making import at, make_job, make_term, process

JOB = make_job("interval", seconds=1, start_date=at(-100))
FUNCTION = StoredJob("tests.schedule.stored_functions:remember", {"value": 1}, {})

IDS = {"job", "retired", "steady", "added"}
RUNS, SKIPS, TERMS = 3, 2, 2


def in_turn(values: Iterable[tuple[str, str, str]], odds: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
    """An odd value for each value of each row, given as table, column and row; for jobs, which differ, all of them.

    Rows of a table are alike, so they share the odd values.
    """
    counts = Counter[tuple[str, str]]()
    for table, column, row in values:
        turn = len(column) + counts[table, column]
        counts[table, column] += 1
        for odd in odds if table == "jobs" else [odds[turn % len(odds)]]:
            yield table, column, row, odd


async def fill(ledger: Ledger) -> None:
    """Two terms, and jobs of each kind with a row of each kind; ``steady`` is the one that has to go on."""
    await ledger.begin_term(make_term(1), process())
    names = ("job", "steady", "retired")
    await ledger.record(1, [RegisterJob(name, JOB.schedule, at=at(0), since=at(0)) for name in names])
    await ledger.record(1, [RetireJob("retired", at(1)), DescribeJob("job", JobInfo("A job", None, ("night",)))])
    for second in range(1, RUNS):
        tick = Tick("job", at(second))
        assert await ledger.record(1, [Claim(tick, at(second))]) == [True]
        log = RecordLog(tick, RunLog(1, "Traceback", (), 0))
        ends = [Retry(tick, Outcome.FAILED, at(second), "e"), log, FinishRun(tick, Outcome.FAILED, at(second), "e")]
        assert await ledger.record(1, ends) == [True, True, True]
    await ledger.fence(1, pid=process().pid, by_pid=150, silent=5.0, every=5.0)
    await ledger.begin_term(make_term(2, pid=150, elected_at=at(RUNS), after=(100, at(RUNS))), process(150))
    assert await ledger.record(2, [Claim(Tick("job", at(RUNS)), at(RUNS))]) == [True], "it stays open"
    await ledger.record(2, [Skip("job", at(due), at(due), 1, SkipReason.OVERLAP, at(due)) for due in (7, 8)])
    await ledger.store_jobs([NewJob("added", JOB.schedule, FUNCTION)])
    await ledger.pause("added", True)
    await ledger.request(Action.RUN, job_id="added")


async def read_everything(ledger: Ledger) -> None:
    """An odd value hides its own row at most. Only reads of ``verify`` may raise, and they name the row."""
    jobs = await ledger.jobs(removed=True)
    assert len({job.id for job in jobs} & IDS) >= len(IDS) - 1
    assert len(jobs) == len(IDS)
    assert "steady" in {job.id for job in await ledger.find_jobs(["job", "steady"])}
    overview = await ledger.overview()
    assert "steady" in {job.id for job in (*overview.code, *overview.stored)}
    await ledger.due_soonest(5)
    await ledger.last_outcomes(["job", "steady"])
    await _read_runs(ledger, tagged=any(job.id == "job" and job.info for job in jobs))
    await ledger.logs(1)
    await ledger.request_row(1)
    assert len(await ledger.skips()) >= SKIPS - 1
    assert len(await ledger.audit_trail()) >= 1
    assert len(await ledger.terms()) >= TERMS - 1
    for since, until, limit in ((-60, 60, 100), (2, 4, 100), (-60, 60, 2)):
        window = await ledger.window(at(since), at(until), limit)
        assert window.counts is not None
        assert len(window.terms) >= (TERMS - 1 if since == -60 and limit > TERMS else 0)
    assert len(await ledger.open_runs()) <= 1
    await ledger.totals()
    await ledger.latest_terms()
    await ledger.changes()
    for read in (ledger.epochs(), ledger.pruned_until(), verify(ledger, now=at(1000))):
        try:
            await read
        except LedgerError as error:
            assert "the ledger has a row that no worker can have written" in str(error)


async def _read_runs(ledger: Ledger, *, tagged: bool) -> None:
    assert len(await ledger.claims()) >= RUNS - 1
    found: list[list[RunRow]] = [await ledger.runs(), await ledger.runs(job_id="job")]
    if tagged:
        found.append(await ledger.runs(tag="night"))
    assert min(map(len, found)) >= RUNS - 1
    assert len(await ledger.runs(outcome="failed")) >= RUNS - 2
    assert len((await ledger.window(at(-60), at(60), 100)).runs) >= RUNS - 1


async def lead_on(ledger: Ledger) -> None:
    """The next leader takes over, and runs the job ``steady``; old history goes."""
    await ledger.begin_term(make_term(3, pid=200, elected_at=at(60), after=(150, at(59))), process(200))
    await ledger.confirm_term(3, 3.0)
    both = [RegisterJob(name, JOB.schedule, at=at(60), since=at(60)) for name in ("job", "steady")]
    assert await ledger.record(3, both) == [True, True], "as the plan of a term does it: in one write"
    tick = Tick("steady", at(61))
    assert await ledger.record(3, [Claim(tick, at(61))]) == [True]
    assert await ledger.record(3, [FinishRun(tick, Outcome.SUCCEEDED, at(61))]) == [True]
    await ledger.pause("steady", True)
    await ledger.pause("steady", False)
    await ledger.store_jobs([NewJob("another", JOB.schedule, FUNCTION)])
    await ledger.remove_job("another")
    await ledger.accept_time()
    assert await ledger.fence(3, pid=200, by_pid=250, silent=5.0, every=0.0)
    assert await ledger.prune(at(100_000), 1000) >= RUNS
    await ledger.end_term(3, Standing.RESIGNED)


async def failures(ledger: Ledger, *, what: str) -> list[str]:
    """Read all, then lead on and close it; returns where that failed, and ``what`` is odd in the ledger."""
    try:
        await read_everything(ledger)
        await lead_on(ledger)
    except Exception:
        return [f"with {what}: {traceback.format_exc()}"]
    finally:
        await ledger.close()
    return []
