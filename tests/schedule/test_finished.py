"""Jobs that were added at run time and have no further ticks leave the pool (docs/pitfalls.md#55)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from election.core.errors import LedgerError
from election.schedule.commands import Claim, Entry, FinishRun, Skip
from election.schedule.history import RunRow
from election.schedule.model import Action, Outcome, SkipReason, Tick
from election.schedule.stored import to_store
from tests.schedule import stored_functions
from tests.schedule.making import at, make_term, process
from tests.schedule.term_bench import TermBench, looked

pytestmark = pytest.mark.anyio

FUNC = f"{stored_functions.__name__}:remember_soon"


async def store(bench: TermBench, trigger: str = "date", **arguments: Any) -> None:
    """Add the job ``once``, due in a second by default."""
    if trigger == "date":
        arguments.setdefault("run_date", bench.clock.now() + timedelta(seconds=1))
    func = arguments.pop("func", FUNC)
    await bench.others.store_job("once", *to_store(bench.registry, func, trigger, id="once", **arguments))


async def left(bench: TermBench) -> bool:
    return "once" not in {job.id for job in await bench.others.jobs()}


async def history(bench: TermBench) -> list[RunRow]:
    return await bench.runs(job_id="once")


@pytest.fixture(autouse=True)
def steady(bench: TermBench) -> None:
    """A permanent job of the code."""
    bench.job(id="steady", seconds=1)


async def test_a_one_shot_leaves_when_it_has_run_and_its_id_is_free(bench: TermBench) -> None:
    async with bench.term(1) as term:
        await store(bench)
        await bench.until(lambda: left(bench))
        assert [run.outcome for run in await history(bench)] == [Outcome.SUCCEEDED]
        await store(bench)
        await bench.until(lambda: left(bench))
        assert len(await history(bench)) == 2
        await store(bench, run_date=at(3600))
        await bench.until(lambda: "once" in term._jobs.progress)
        assert set(term._jobs.progress) == {"steady", "once"}
        await bench.others.remove_job("once")
        await bench.until(lambda: set(term._jobs.progress) == {"steady"})
    await bench.agrees()


async def test_so_does_a_job_whose_end_has_come(bench: TermBench) -> None:
    async with bench.term(1):
        end = bench.clock.now() + timedelta(seconds=3.5)
        await store(bench, "interval", seconds=1, end_date=end)
        await bench.until(lambda: left(bench))
        assert len(await history(bench)) == 3
    await bench.agrees()


async def test_a_one_shot_that_was_skipped_leaves_too(bench: TermBench) -> None:
    async with bench.term(1):
        await store(bench, run_date=bench.clock.now() - timedelta(hours=1), misfire_grace_time=1)
        await bench.until(lambda: left(bench))
    assert await history(bench) == []
    assert SkipReason.DOWN in await bench.skips()
    await bench.agrees()


async def test_one_that_fails_leaves_after_its_last_retry(bench: TermBench) -> None:
    async with bench.term(1):
        await store(bench, func=f"{stored_functions.__name__}:raise_error", retries=2, retry_backoff=0.5)
        await bench.until(lambda: history(bench))
        assert not await left(bench), "it has attempts left"
        await bench.until(lambda: left(bench))
        [run] = await history(bench)
    assert (run.attempt, run.outcome) == (3, Outcome.FAILED)


@pytest.mark.parametrize("rerun", [False, True])
async def test_what_a_dead_leader_left_of_it_ends_in_the_next_term(bench: TermBench, rerun: bool) -> None:
    """Its open run is settled, or run again; then the job is removed."""
    await bench.others.begin_term(make_term(1), process())
    await store(bench, rerun_interrupted=rerun)
    await bench.others.record(1, [Claim(Tick("once", at(1)), at(1))])
    await bench.clock.advance(2)
    async with bench.term(2):
        await bench.until(lambda: left(bench))
    [run] = await history(bench)
    assert run.outcome is (Outcome.SUCCEEDED if rerun else Outcome.INTERRUPTED)


async def test_a_ledger_that_cannot_be_written_loses_no_one_shot(bench: TermBench) -> None:
    """The tick was handed over and could not be claimed: it is owed, and the job stays until it has run."""
    async with bench.term(1):
        await store(bench)
        await bench.clock.advance(0.5)
        bench.ledger.fault = LedgerError("the disk is full")
        await bench.clock.advance(1)
        assert not await left(bench)
        bench.ledger.fault = None
        await bench.until(lambda: left(bench))
    assert [run.outcome for run in await history(bench)] == [Outcome.SUCCEEDED]
    await bench.agrees()


async def test_one_that_is_to_run_again_now_stays_until_it_has(bench: TermBench) -> None:
    async with bench.term(1):
        await store(bench, run_date=bench.clock.now() + timedelta(seconds=2))
        await bench.others.request(Action.RUN, job_id="once")
        await bench.until(lambda: left(bench))
        assert len(await history(bench)) == 2
    await bench.agrees()


@pytest.mark.parametrize("taken", [False, True])
async def test_a_job_that_has_taken_the_free_id_meanwhile_is_not_forgotten(bench: TermBench, taken: bool) -> None:
    """A server may answer after another worker has reused the freed id."""
    async with bench.term(1) as term:
        await store(bench, run_date=at(3600))
        jobs = term._jobs
        await bench.until(lambda: "once" in jobs.progress)
        progress = jobs.progress["once"]
        answers: list[Any] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jobs._writer, "claim", lambda entries, on_done: answers.append(on_done))
            progress.exhausted = at(0)
            jobs.on_idle(progress)
        if taken:
            progress.scheduled_since = at(1)
        answer: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
        answer.set_result([True])
        answers[0](answer)
        assert ("once" in jobs.progress) == taken


async def test_p4_ticks_left_out_at_the_end_of_a_schedule_are_skipped(bench: TermBench) -> None:
    """The machine was asleep until after the end: the job left, and the ticks in between had neither run nor skip."""
    async with bench.term(1):
        end = bench.clock.now() + timedelta(seconds=60)
        await store(bench, "interval", seconds=10, end_date=end)
        await bench.until(lambda: history(bench))
        bench.clock.step_wall_clock(timedelta(seconds=600))
        await bench.until(lambda: left(bench))
    skipped = [row for row in await bench.others.skips() if row.job_id == "once"]
    assert len(await history(bench)) + sum(row.count or 0 for row in skipped) == 6
    await bench.agrees()


async def test_a_one_shot_whose_result_could_not_be_written_leaves_when_it_can(bench: TermBench) -> None:
    """It stayed in the pool, and its id was taken, until the next term."""
    failed: list[bool] = []

    async def fail(entries: Sequence[Entry]) -> None:
        if not failed and any(isinstance(entry, FinishRun) and entry.tick.job_id == "once" for entry in entries):
            failed.append(True)
            raise LedgerError("the disk is full")

    bench.ledger.before_record = fail
    async with bench.term(1):
        await store(bench)
        await bench.until(lambda: left(bench))
        assert failed
    await bench.agrees()


async def test_one_that_leaves_while_a_plan_is_written_stops_no_plan(
    bench: TermBench, caplog: pytest.LogCaptureFixture
) -> None:
    """Its progress was looked up once more: a KeyError, which put all jobs off until the next try."""
    async with bench.term(1) as term:
        await store(bench, run_date=at(3600))
        await bench.until(lambda: "once" in term._jobs.progress)

        async def leave(entries: Sequence[Entry]) -> None:
            if any(isinstance(entry, Skip) for entry in entries):
                bench.ledger.before_record = None
                term._jobs.forget("once")

        await bench.others.pause("steady", True)
        await bench.clock.advance(3)
        bench.ledger.before_record = leave
        await bench.others.pause("once", True)
        await bench.others.pause("steady", False)  # both are planned together; a plan of skips is written
        await bench.until(lambda: bench.ledger.before_record is None)
        await looked(bench)
    assert "planning the jobs" not in caplog.text
