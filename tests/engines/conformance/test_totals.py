"""Counters of the ledger: immediate, the same for every reader, and never decreasing, even when history is pruned."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from election.core.term import Reason, Standing
from election.schedule.commands import Claim, Entry, FinishRun, RegisterJob, RetireJob, Retry, Skip
from election.schedule.history import BOUNDS, Histogram, Totals
from election.schedule.ledger import Ledger
from election.schedule.model import Action, NewJob, Outcome, SkipReason, StoredJob, Tick
from tests.engines.conformance.pool import SECONDS
from tests.schedule.making import at, make_job, make_term, process

pytestmark = pytest.mark.anyio


def run(second: float, *, late: float = 0, took: float = 0.5, outcome: Outcome = Outcome.SUCCEEDED) -> list[Entry]:
    tick, claimed = Tick("job", at(second)), at(second + late)
    return [Claim(tick, claimed), FinishRun(tick, outcome, at(second + late + took), "wrong")]


def skip(first: float, last: float, reason: SkipReason = SkipReason.DOWN, **more: Any) -> Skip:
    return Skip("job", at(first), at(last), round(last - first) + 1, reason, at(last), **more)


def histogram(*seconds: float) -> Histogram:
    """Histogram of durations."""
    counts = [0] * (len(BOUNDS) + 1)
    for each in seconds:
        counts[next((place for place, bound in enumerate(BOUNDS) if each <= bound), len(BOUNDS))] += 1
    return Histogram(counts, pytest.approx(sum(seconds)))


async def test_runs_are_counted_when_they_end(ledger: Ledger) -> None:
    await ledger.record(1, [Claim(Tick("job", at(1)), at(1))])
    assert (await ledger.totals()).runs == {}
    await ledger.record(1, [FinishRun(Tick("job", at(1)), Outcome.SUCCEEDED, at(2))])
    await ledger.record(1, [FinishRun(Tick("job", at(1)), Outcome.FAILED, at(2))])
    await ledger.record(1, run(2, outcome=Outcome.FAILED) + run(3, outcome=Outcome.INTERRUPTED) + run(4))
    assert (await ledger.totals()).runs == {
        ("job", Outcome.SUCCEEDED): 2,
        ("job", Outcome.FAILED): 1,
        ("job", Outcome.INTERRUPTED): 1,
    }


async def test_the_latest_success_stays(ledger: Ledger) -> None:
    assert (await ledger.totals()).last_success == {}
    await ledger.record(1, run(5) + run(6, outcome=Outcome.FAILED))
    assert (await ledger.totals()).last_success == {"job": at(5.5)}
    await ledger.record(1, run(7) + run(8) + run(9, outcome=Outcome.INTERRUPTED))
    assert (await ledger.totals()).last_success == {"job": at(8.5)}
    early = [Claim(Tick("job", at(10)), at(10)), FinishRun(Tick("job", at(10)), Outcome.SUCCEEDED, at(3))]
    await ledger.record(1, early)
    assert (await ledger.totals()).last_success == {"job": at(8.5)}, "by a clock that was set back"


async def test_a_run_is_counted_once_however_many_attempts_it_took(ledger: Ledger) -> None:
    tick = Tick("job", at(1))
    await ledger.record(1, [Claim(tick, at(1)), Retry(tick, Outcome.FAILED, at(2)), Retry(tick, Outcome.FAILED, at(4))])
    await ledger.record(1, [FinishRun(tick, Outcome.SUCCEEDED, at(9))])
    found = await ledger.totals()
    assert found.runs == {("job", Outcome.SUCCEEDED): 1}
    assert found.durations == {"job": histogram(8)}


@pytest.mark.parametrize("seconds", [0, 0.005, 0.005001, 0.7, 1, 14.9, 3600, 3600.1, 10**6])
async def test_times_fall_into_their_buckets(ledger: Ledger, seconds: float) -> None:
    await ledger.record(1, run(1, late=seconds, took=seconds))
    found = await ledger.totals()
    assert found.lateness == {"job": histogram(seconds)}
    assert found.durations == {"job": histogram(seconds)}


async def test_a_run_that_waited_for_a_thread_is_as_late_as_its_code(ledger: Ledger) -> None:
    tick = Tick("job", at(1))
    await ledger.record(1, [Claim(tick, at(1)), FinishRun(tick, Outcome.SUCCEEDED, at(9), None, at(8))])
    found = await ledger.totals()
    assert found.lateness == {"job": histogram(7)}
    assert found.durations == {"job": histogram(8)}, "from the claim, with the wait"


async def test_a_clock_that_stepped_back_takes_nothing_away(ledger: Ledger) -> None:
    await ledger.record(1, run(100, late=-50, took=-20))
    found = await ledger.totals()
    assert found.lateness == found.durations == {"job": histogram(0)}


async def test_an_interrupted_run_has_no_duration(ledger: Ledger) -> None:
    """When its leader died, the duration is unknown."""
    await ledger.record(1, run(1, took=500, outcome=Outcome.INTERRUPTED))
    assert (await ledger.totals()).durations == {}


async def test_what_somebody_asked_for_is_not_late(ledger: Ledger) -> None:
    request = await ledger.request(Action.RUN, job_id="job")
    tick = Tick("job", at(1), request)
    await ledger.record(1, [Claim(tick, at(7)), FinishRun(tick, Outcome.SUCCEEDED, at(8))])
    found = await ledger.totals()
    assert found.lateness == {}
    assert found.runs == {("job", Outcome.SUCCEEDED): 1}


async def test_jobs_that_were_added_at_run_time_are_counted_by_their_function(ledger: Ledger) -> None:
    """There is no limit to their ids: the counters of a thousand reminders are those of one job."""
    due = datetime.now(UTC) + timedelta(seconds=60)
    jobs = [NewJob(f"r{number}", make_job("date", run_date=due).schedule, StoredJob("a:f")) for number in range(3)]
    jobs.append(NewJob("other", make_job("date", run_date=due).schedule, StoredJob("a:g")))
    await ledger.store_jobs(jobs)
    ticks = [Tick(job.id, due) for job in jobs]
    await ledger.record(1, [*(Claim(tick, due) for tick in ticks[1:]), skip(1, 1)])
    await ledger.record(1, [Skip("r0", due, due, 1, SkipReason.MISFIRED, due), *run(2)])
    await ledger.record(1, [FinishRun(tick, Outcome.SUCCEEDED, due) for tick in ticks[1:]])
    found = await ledger.totals()
    assert found.jobs == ["job"]
    assert found.runs == {
        ("added:a:f", Outcome.SUCCEEDED): 2,
        ("added:a:g", Outcome.SUCCEEDED): 1,
        ("job", Outcome.SUCCEEDED): 1,
    }
    assert found.skips == {("added:a:f", SkipReason.MISFIRED): 1, ("job", SkipReason.DOWN): 1}
    assert found.lateness == {"added:a:f": histogram(0, 0), "added:a:g": histogram(0), "job": histogram(0)}
    assert found.durations == {"added:a:f": histogram(0, 0), "added:a:g": histogram(0), "job": histogram(0.5)}
    assert found.settled_until == due


async def test_the_counters_of_a_function_stay_when_its_jobs_are_gone(ledger: Ledger) -> None:
    due = datetime.now(UTC) + timedelta(seconds=60)
    await ledger.store_job("one", make_job("date", run_date=due).schedule, StoredJob("a:f"))
    tick = Tick("one", due)
    await ledger.record(1, [Claim(tick, due), FinishRun(tick, Outcome.FAILED, due)])
    await ledger.remove_job("one")
    assert await ledger.prune(due + timedelta(seconds=1), 100) == 3, "the run, and who added and removed the job"
    assert (await ledger.totals()).runs == {("added:a:f", Outcome.FAILED): 1}


async def test_a_burst_is_counted_to_the_last(ledger: Ledger) -> None:
    """More than fit into one statement, some of them twice in it."""
    await ledger.record(1, [RegisterJob(f"j{n}", SECONDS.schedule, at=at(0), since=at(0)) for n in range(400)])
    ticks = [Tick(f"j{n}", at(second)) for n in range(400) for second in (1, 2)]
    await ledger.record(1, [Claim(tick, at(2)) for tick in ticks])
    await ledger.record(1, [FinishRun(tick, Outcome.SUCCEEDED, at(3)) for tick in ticks])
    found = await ledger.totals()
    assert found.runs == {(f"j{n}", Outcome.SUCCEEDED): 2 for n in range(400)}
    assert set(found.lateness) == set(found.durations) == {f"j{n}" for n in range(400)}
    assert found.lateness["j399"] == histogram(0, 1)


async def test_skips_count_ticks(ledger: Ledger) -> None:
    await ledger.record(1, [skip(1, 4), skip(5, 5, SkipReason.OVERLAP), replace(skip(6, 900), count=None)])
    tick = Tick("job", at(901))
    await ledger.record(1, [Claim(tick, at(901)), skip(901, 901, SkipReason.MISFIRED, claimed=True)])
    found = await ledger.totals()
    assert found.skips == {
        ("job", SkipReason.DOWN): 104,
        ("job", SkipReason.OVERLAP): 1,
        ("job", SkipReason.MISFIRED): 1,
    }
    assert found.runs == {}, "a claim that came too late is no run"


async def test_terms_are_counted_by_how_they_began(ledger: Ledger) -> None:
    for number, reason, vacant_s, takeover_ms in [(2, Reason.DIED, 0.5, 4), (3, Reason.DIED, 20, 30)]:
        term = make_term(number)
        term = replace(term, takeover=replace(term.takeover, reason=reason, vacant_s=vacant_s))
        for _ in range(2):  # after an unreachable ledger, for example
            await ledger.begin_term(term, process())
            await ledger.confirm_term(number, takeover_ms)
    found = await ledger.totals()
    assert found.terms == {Reason.STARTED: 1, Reason.DIED: 2}
    assert found.vacant_s == {Reason.STARTED: 0, Reason.DIED: 20.5}
    assert found.takeover == histogram(0.004, 0.03)


async def test_pruning_takes_nothing_away(ledger: Ledger) -> None:
    await ledger.record(1, [entry for second in range(1, 50) for entry in run(second)] + [skip(50, 60)])
    await ledger.end_term(1, Standing.RESIGNED)
    await ledger.begin_term(make_term(2, elected_at=at(1000)), process())
    before = await ledger.totals()
    assert await ledger.prune(at(500), 1000) == 50
    assert await ledger.runs() == []
    assert await ledger.totals() == before
    assert before.runs == {("job", Outcome.SUCCEEDED): 49}


async def test_a_job_that_is_gone_is_forgotten_with_its_history(ledger: Ledger) -> None:
    await ledger.record(1, [*run(1), skip(2, 3), RetireJob("job", at(4))])
    await ledger.prune(at(4), 1)
    assert (await ledger.totals()).runs == {("job", Outcome.SUCCEEDED): 1}, "gone, but not for long enough"
    await ledger.record(
        1, [RegisterJob("job", SECONDS.schedule, at=at(4), since=at(4)), *run(5), RetireJob("job", at(6))]
    )
    await ledger.prune(at(100), 1000)
    assert await ledger.totals() == Totals(
        [], {}, {}, {}, {}, {Reason.STARTED: 1}, histogram(), {Reason.STARTED: 0}, {}
    )
