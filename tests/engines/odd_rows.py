"""Use of a ledger in which one value is unreadable, as after a mistake by hand or from a newer version."""

from __future__ import annotations

from election.core.errors import LedgerError
from election.core.term import Standing
from election.schedule.commands import Claim, FinishRun, RecordLog, RegisterJob, Retry, Skip
from election.schedule.ledger import Ledger
from election.schedule.model import Action, NewJob, Outcome, RunLog, SkipReason, StoredJob, Tick
from election.schedule.verify import verify
from tests.schedule.making import at, make_job, make_term, process

JOB = make_job("interval", seconds=1, start_date=at(-100))
FUNCTION = StoredJob("tests.schedule.stored_functions:remember", {"value": 1}, {})


async def fill(ledger: Ledger) -> None:
    """A term of three jobs with a row of each kind; ``steady`` is the one that has to go on."""
    await ledger.begin_term(make_term(1), process())
    await ledger.record(1, [RegisterJob(name, JOB.schedule, at=at(0), since=at(0)) for name in ("job", "steady")])
    for second in range(1, 6):
        tick = Tick("job", at(second))
        assert await ledger.record(1, [Claim(tick, at(second))]) == [True]
        log = RecordLog(tick, RunLog(1, "Traceback", (), 0))
        ends = [Retry(tick, Outcome.FAILED, at(second), "e"), log, FinishRun(tick, Outcome.FAILED, at(second), "e")]
        assert await ledger.record(1, ends) == [True, True, True]
    assert await ledger.record(1, [Claim(Tick("job", at(6)), at(6))]) == [True], "it stays open"
    await ledger.record(1, [Skip("job", at(7), at(7), 1, SkipReason.OVERLAP, at(7))])
    await ledger.store_jobs([NewJob("added", JOB.schedule, FUNCTION)])
    await ledger.request(Action.RUN, job_id="added")


async def read_everything(ledger: Ledger) -> None:
    """Raises what a read raised. Only reads of ``verify`` may raise, and they name the row."""
    await ledger.jobs(removed=True)
    await ledger.overview()
    await ledger.due_soonest(5)
    await ledger.find_jobs(["job", "steady"])
    await ledger.last_outcomes(["job", "steady"])
    await ledger.runs()
    await ledger.runs(job_id="job")
    await ledger.runs(outcome="failed")
    await ledger.runs(tag="night")
    await ledger.logs(1)
    await ledger.request_row(1)
    await ledger.skips()
    await ledger.claims()
    await ledger.audit_trail()
    await ledger.terms()
    for since, until, limit in ((-60, 60, 100), (2, 4, 100), (-60, 60, 2)):
        await ledger.window(at(since), at(until), limit)
    await ledger.open_runs()
    await ledger.totals()
    await ledger.latest_terms()
    await ledger.changes()
    for read in (ledger.epochs(), ledger.pruned_until(), verify(ledger, now=at(1000))):
        try:
            await read
        except LedgerError as error:
            assert "the ledger has a row that no worker can have written" in str(error)


async def lead_on(ledger: Ledger) -> None:
    """The next leader takes over, and runs the job ``steady``; old history goes."""
    await ledger.begin_term(make_term(2, pid=200, elected_at=at(60), after=(100, at(59))), process(200))
    await ledger.confirm_term(2, 3.0)
    assert await ledger.record(2, [RegisterJob("steady", JOB.schedule, at=at(60), since=at(60))]) == [True]
    tick = Tick("steady", at(61))
    assert await ledger.record(2, [Claim(tick, at(61))]) == [True]
    assert await ledger.record(2, [FinishRun(tick, Outcome.SUCCEEDED, at(61))]) == [True]
    await ledger.pause("steady", True)
    await ledger.pause("steady", False)
    await ledger.store_jobs([NewJob("another", JOB.schedule, FUNCTION)])
    await ledger.remove_job("another")
    await ledger.accept_time()
    assert await ledger.prune(at(100_000), 1000) >= 4
    await ledger.end_term(2, Standing.RESIGNED)
