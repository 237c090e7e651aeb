"""A short history of a ledger, for servers of several versions."""

from __future__ import annotations

from election.core.term import Standing
from election.schedule.commands import Claim, FinishRun, RegisterJob, RetireJob, Retry
from election.schedule.ledger import Ledger
from election.schedule.model import Outcome, Tick
from election.schedule.verify import verify
from tests.schedule.making import at, make_job, make_term, process

JOB = make_job("interval", seconds=1, start_date=at(-100))


async def write_history(ledger: Ledger) -> None:
    """Forty seconds of a job in term 3: claims, retries, a pause, totals, a check, and pruning."""
    try:
        await ledger.begin_term(make_term(3), process())
        await ledger.record(3, [RegisterJob("job", JOB.schedule, at=at(0), since=at(0))])
        for second in range(1, 40):
            tick = Tick("job", at(second))
            assert await ledger.record(3, [Claim(tick, at(second)), Claim(tick, at(second))]) == [True, False]
            await ledger.record(
                3, [Retry(tick, Outcome.FAILED, at(second)), FinishRun(tick, Outcome.SUCCEEDED, at(second))]
            )
        await ledger.pause("job", True)
        await ledger.end_term(3, Standing.RESIGNED)
        assert len(await ledger.runs()) == 39
        assert len((await ledger.window(at(10), at(19), 100)).runs) == 10
        assert (await ledger.totals()).runs == {("job", Outcome.SUCCEEDED): 39}
        await ledger.record(3, [RetireJob("job", at(39))])
        assert not (await verify(ledger, now=at(1000))).violations
        assert await ledger.prune(at(20), 100) == 19
    finally:
        await ledger.close()
