"""Requests to the leader are carried out once, by any leader, and the history shows it (P3, P4).

A real ``Election`` leads in this process. Others have a separate ledger, like the command line, or a process. Each test
ends with ``verify``, which must find nothing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest

from election import Election
from election.core.errors import UnknownJobError
from election.core.term import Reason, Standing
from election.schedule.ledger import Ledger
from election.schedule.model import Action, Outcome, SkipReason
from tests.engines.conformance.jobs import begun
from tests.engines.conformance.leading import (
    JOBS,
    Other,
    count,
    done,
    ended,
    leading,
    passes,
    pause_and_resume,
    stands_still,
    stored,
)
from tests.engines.conformance.pool import Pool
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio

ALL = 10**6


@pytest.fixture
async def leader(pool: Pool) -> AsyncIterator[Election]:
    async with leading(pool) as election:
        yield election


@pytest.fixture
async def outside(pool: Pool) -> AsyncIterator[Ledger]:
    ledger = pool.ledger()
    yield ledger
    await ledger.close()


@pytest.fixture
def other(pool: Pool) -> Iterator[Other]:
    """Not begun yet."""
    other = Other(pool)
    yield other
    other.end()


async def test_p4_a_paused_job_stands_still_and_what_it_missed_is_skipped_as_paused(
    leader: Election, outside: Ledger
) -> None:
    await pause_and_resume(outside, "often")
    assert leader.term == 1
    skips = [skip for skip in await outside.skips(job_id="often") if skip.reason is SkipReason.PAUSED]
    assert sum(skip.count or 0 for skip in skips) >= 3, "as many as others ran"
    for skip in skips:
        missed = [run for run in begun if run.job_id == "often" and skip.first_due <= run.due <= skip.last_due]
        assert missed == [], "P3: a tick is skipped, or it runs"
    assert SkipReason.PAUSED not in {skip.reason for skip in await outside.skips(job_id="other")}
    found = await stored(outside, "often")
    assert (found.paused_at, found.resume_at) == (None, None)


@pytest.mark.usefixtures("leader")
async def test_p3_run_now_runs_once_for_each_time_that_it_is_asked_for(pool: Pool, outside: Ledger) -> None:
    asked = []
    for number in (1, 2):
        asked.append(await outside.request(Action.RUN, job_id="seldom"))
        runs = await ended(outside, "seldom", number)
        assert [run.request for run in runs] == asked[::-1]
        assert {run.outcome for run in runs} == {Outcome.SUCCEEDED}
        await done(pool, asked[-1])
        await passes()
        assert count("seldom") == number
    found = await stored(outside, "seldom")
    assert found.settled_until == found.scheduled_since, "what was asked for is no tick of the schedule"


@pytest.mark.usefixtures("leader")
async def test_a_paused_job_runs_when_somebody_asks_for_it(pool: Pool, outside: Ledger) -> None:
    await outside.pause("seldom", True)
    request = await outside.request(Action.RUN, job_id="seldom")
    [run] = await ended(outside, "seldom")
    assert (run.request, run.outcome) == (request, Outcome.SUCCEEDED)
    await done(pool, request)
    assert (await stored(outside, "seldom")).paused


async def test_p2_a_leader_that_is_asked_to_resign_does_and_the_next_term_begins(
    leader: Election, pool: Pool, outside: Ledger
) -> None:
    request = await outside.request(Action.RESIGN, term=1)
    await until_async(lambda: leader.term == 2, what="the next term begins")
    await passes()
    await done(pool, request)
    await done(pool, await outside.request(Action.RESIGN, term=1))
    await passes()
    assert leader.term == 2, "a term that is over cannot resign"
    second, first = await outside.terms()
    assert (first.term, first.standing, second.term, second.standing) == (1, Standing.RESIGNED, 2, None)
    assert first.ended_ns is not None
    assert first.ended_ns <= second.began_ns, "P1"


async def test_p6_a_follower_takes_over_from_a_leader_that_is_asked_to_resign(
    leader: Election, other: Other, outside: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("election.core.seat.RESIGNER_PAUSE", 60.0)  # no race on a busy machine
    assert await other.begin() == "follows"
    await outside.request(Action.RESIGN, term=1)
    await until_async(lambda: not leader.is_leader, what="it resigns")

    async def begun_there() -> bool:
        return any(run.term == 2 for run in await outside.runs(job_id="often"))

    await until_async(begun_there, what="the next term runs jobs")
    second, first = await outside.terms()
    assert (first.pid, first.standing) == (os.getpid(), Standing.RESIGNED)
    assert (second.pid, second.from_pid, second.reason) == (other.pid, os.getpid(), Reason.RESIGNED)


@pytest.mark.usefixtures("leader")
async def test_a_follower_adds_a_job_puts_another_in_its_place_and_removes_it(other: Other, outside: Ledger) -> None:
    assert await other.begin() == "follows"
    assert await other.ask("add_job", f"{JOBS}:note", "interval", id="added", seconds=0.2) is None
    await passes("added")
    again = f"{JOBS}:fail_at_first", "interval"
    assert "replace=True" in await other.ask("add_job", *again, id="added", seconds=0.3)
    assert await other.ask("add_job", *again, id="added", seconds=0.3, replace=True) is None

    async def failed() -> bool:
        return len(await outside.runs(job_id="added", outcome="failed")) >= 3

    await until_async(failed, what="what was put in its place runs")
    assert await other.ask("remove_job", "added") is None
    await until_async(lambda: stands_still("added"), what="it is gone")
    before = count("added")
    await passes()
    assert count("added") == before
    assert (await stored(outside, "added")).removed
    runs = await outside.runs(job_id="added", limit=ALL)
    assert len(runs) == before, "its history stays"
    assert {run.term for run in runs} == {1}, "who leads has run it, whoever added it"
    with pytest.raises(UnknownJobError, match="added"):
        await outside.request(Action.RUN, job_id="added")
    assert "UnknownJobError" in await other.ask("remove_job", "added")


@pytest.mark.usefixtures("leader")
async def test_p3_a_run_that_fails_is_tried_again_as_the_same_run(outside: Ledger) -> None:
    await outside.request(Action.RUN, job_id="fragile")
    [run] = await ended(outside, "fragile")
    assert (run.attempt, run.outcome, run.error) == (2, Outcome.SUCCEEDED, None)
    [first] = run.attempts
    assert (first["attempt"], first["term"], first["outcome"]) == (1, 1, "failed")
    assert "not yet" in first["error"]
    assert count("fragile") == 2


async def test_p4_what_a_leaders_death_cut_off_runs_again_if_it_may(pool: Pool, other: Other, outside: Ledger) -> None:
    other.patient = False  # its successor has not seen it alive, and waits for the end of its lease
    assert await other.begin() == "leads"
    jobs = {"rerun", "given up"}

    async def known() -> bool:
        return {job.id for job in await outside.jobs()} > jobs

    async def run() -> bool:
        return {run.tick.job_id for run in await outside.open_runs()} >= jobs

    await until_async(known, what="the jobs are known")
    for job_id in jobs:
        await outside.request(Action.RUN, job_id=job_id)
    await until_async(run, what="both run")
    other.end()
    async with leading(pool, patient=False) as leader:
        assert leader.term == 2
        [again] = await ended(outside, "rerun")
        [cut_off] = await ended(outside, "given up")
    assert (again.term, again.attempt, again.outcome) == (2, 2, Outcome.SUCCEEDED)
    assert [(one["attempt"], one["term"], one["outcome"]) for one in again.attempts] == [(1, 1, "interrupted")]
    assert (cut_off.term, cut_off.attempt, cut_off.outcome) == (1, 1, Outcome.INTERRUPTED)
    assert (count("rerun"), count("given up")) == (1, 0)
    assert [term.standing for term in await outside.terms()] == [Standing.RESIGNED, None]


async def test_the_history_tells_of_all_that_was_asked_for(pool: Pool, outside: Ledger) -> None:
    """By any query; runs of this process are in its report."""
    began = datetime.now(UTC)
    async with leading(pool) as leader:
        await pause_and_resume(outside, "often")
        await outside.request(Action.RUN, job_id="seldom")
        await ended(outside, "seldom")
        await outside.request(Action.RESIGN, term=1)
        await until_async(lambda: leader.term == 2, what="the next term begins")
        await passes()
    runs, skips, terms = await outside.runs(limit=ALL), await outside.skips(limit=ALL), await outside.terms()
    assert sorted((run.job_id, run.due, run.request, run.term) for run in runs) == sorted(
        (run.job_id, run.due, run.request, run.term) for run in begun
    )
    assert {run.outcome for run in runs} == {Outcome.SUCCEEDED}
    for job_id in ("often", "other", "seldom"):
        assert await outside.runs(job_id=job_id, limit=ALL) == [run for run in runs if run.job_id == job_id]
        assert await outside.skips(job_id=job_id, limit=ALL) == [skip for skip in skips if skip.job_id == job_id]
    assert [(term.term, term.standing) for term in terms] == [(2, Standing.RESIGNED), (1, Standing.RESIGNED)]
    assert await outside.open_runs() == []

    window = await outside.window(began, datetime.now(UTC), ALL)
    assert (window.runs_every, window.skips_every) == (1, 1)
    assert (list(window.runs), list(window.skips), list(window.terms)) == (runs, skips, terms)
    counted = {"succeeded": len(runs), "skipped": sum(skip.count or 1 for skip in skips)}
    assert {outcome: number for outcome, number in (window.counts or {}).items() if number} == counted
    thinned = await outside.window(began, datetime.now(UTC), 1)
    assert (thinned.runs_every, thinned.counts) == (len(runs), window.counts), "all are counted, also those not shown"

    totals = await outside.totals()
    assert totals.runs == Counter((run.job_id, Outcome.SUCCEEDED) for run in runs)
    skipped: Counter[tuple[str, SkipReason]] = Counter()
    for skip in skips:
        skipped[skip.job_id, skip.reason] += skip.count or 0
    assert totals.skips == skipped
    assert totals.skips["often", SkipReason.PAUSED] >= 3
    assert sum(totals.terms.values()) == 2
    assert {job_id: sum(known.counts) for job_id, known in totals.durations.items()} == Counter(
        run.job_id for run in runs
    )
