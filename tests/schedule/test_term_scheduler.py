"""Scheduler of a term on a real ledger: in step with other writers, and nothing unclaimed when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from apscheduler.triggers.interval import IntervalTrigger

from election.core.backoff import RETRY_MAX_DELAY_S
from election.core.clock import since_boot
from election.core.errors import LedgerError, LedgerVersionError, StaleTermError
from election.core.events import RunStarted, TickSkipped
from election.core.term import Standing
from election.core.threads import in_passing
from election.engines.file import schema
from election.schedule import scheduler_adapter, term_scheduler
from election.schedule import ticks as ticks_module
from election.schedule.commands import (
    Claim,
    CompleteRequest,
    EndPause,
    Entry,
    FinishRun,
    RegisterJob,
    RescheduleJob,
    Skip,
)
from election.schedule.history import RunRow
from election.schedule.ledger import IfExists
from election.schedule.model import Action, JobInfo, Outcome, RequestOutcome, SkipReason, State, StoredJob, Tick
from election.schedule.run import Run, current_run
from election.schedule.stored import reset, to_store
from election.schedule.triggers import describe
from election.schedule.verify import verify
from tests.schedule import stored_functions
from tests.schedule.making import NOW, at, make_job, make_term, process
from tests.schedule.stored_functions import remember_soon
from tests.schedule.term_bench import A_RUN_EACH, FULL, MINUTES, FaultyLedger, TermBench, looked
from tests.support.logs import logged

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# --- in good times ---------------------------------------------------------------------------------------------------


async def test_p3_p4_each_tick_is_claimed_run_and_settled(bench: TermBench) -> None:
    bench.job(coalesce=False)
    async with bench.term(4):
        await bench.until(lambda: len(bench.ran) >= 5)
    runs = await bench.runs()
    assert [run.outcome for run in runs] == [Outcome.SUCCEEDED] * len(bench.ran)
    assert [(run.due, run.term, run.attempt) for run in runs] == [(r.due, 4, r.attempt) for r in bench.by_due()]
    [term] = await bench.others.terms()
    assert (term.term, term.standing, term.takeover_ms) == (4, Standing.RESIGNED, 1.5)
    await bench.agrees()


async def test_jobs_run_with_a_task_factory_that_takes_no_context(bench: TermBench) -> None:
    """As applications and tracers had them before Python 3.11; no job ran, and nothing told why."""
    loop = asyncio.get_running_loop()
    former = loop.get_task_factory()

    def factory(loop: Any, coro: Any, *, name: str | None = None) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=loop, name=name)

    bench.job()
    loop.set_task_factory(factory)
    try:
        async with bench.term():
            await bench.until(lambda: len(bench.ran) >= 3)
    finally:
        loop.set_task_factory(former)
    await bench.agrees()


async def test_pitfall_28_terms_of_one_worker_follow_each_other(bench: TermBench) -> None:
    """The second leader continues where the first has stopped, in the same phase; the ticks between are caught up
    with.
    """
    bench.job(coalesce=False)
    for number in (1, 2, 5):
        async with bench.term(number):
            await bench.until(lambda number=number: any(run.term == number for run in bench.ran))
    ran = bench.by_due()
    assert [run.due for run in ran] == [ran[0].due + timedelta(seconds=0.05) * step for step in range(len(ran))]
    assert [run.term for run in ran] == sorted(run.term for run in ran)
    assert {run.term for run in ran} == {1, 2, 5}
    await bench.agrees()


async def test_a_date_runs_once_ever(bench: TermBench) -> None:
    """Also if its due time falls into a vacancy."""
    moment = bench.clock.now() + timedelta(hours=1)
    bench.job(trigger="date", run_date=moment, misfire_grace_time=None)
    async with bench.term(1):
        await looked(bench)
    assert bench.ran == []
    bench.clock.step_wall_clock(timedelta(hours=1))
    for number in (2, 3):
        async with bench.term(number):
            await bench.until(lambda: bench.ran)
            await looked(bench)
    assert [(run.due, run.term) for run in bench.ran] == [(moment, 2)]
    await bench.agrees()


async def test_changed_and_vanished_jobs_explain_what_they_owed(bench: TermBench) -> None:
    bench.job(seconds=0.05, id="changed")
    bench.job(seconds=0.05, id="vanished")
    async with bench.term(1):
        await bench.until(lambda: {run.job_id for run in bench.ran} == {"changed", "vanished"})
    await bench.clock.advance(0.2)
    bench.registry = bench.new_registry()
    bench.job(seconds=0.07, id="changed")
    async with bench.term(2):
        await bench.until(lambda: [run for run in bench.ran if run.term == 2])
    assert (await bench.skips())[SkipReason.DOWN] >= 4
    states = {state.id: state for state in await bench.others.jobs()}
    assert states["vanished"].retired_at is not None
    assert states["changed"].retired_at is None
    await bench.agrees()


# --- the ledger cannot be written ------------------------------------------------------------------------------------


async def test_p4_a_changed_description_is_told_and_starts_nothing_afresh(bench: TermBench) -> None:
    """From the first term on, the ledger describes each job as the leader's code does; the schedule stays the same."""
    bench.job(seconds=3600, name="old", description="Old words.", tags=["old"])
    async with bench.term(1):
        [first] = await bench.others.jobs()
    assert first.info == JobInfo("old", "Old words.", ("old",))
    bench.registry = bench.new_registry()
    bench.job(seconds=3600, name="new", description="New words.", tags=["new", "billing"])
    async with bench.term(2):
        [second] = await bench.others.jobs()
        await bench.others.pause("job", True)  # then the leader plans again, and has nothing to write
        await looked(bench)
    assert second.info == JobInfo("new", "New words.", ("new", "billing"))
    assert (second.scheduled_since, second.trigger) == (first.scheduled_since, first.trigger)
    assert len(await bench.others.epochs()) == 1


async def test_a_stored_job_is_described_within_a_heartbeat(bench: TermBench) -> None:
    stored = StoredJob("tests.schedule.stored_functions:remember", {}, {"description": "Words.", "tags": ["added"]})
    async with bench.term(1):
        await bench.others.store_job("added", make_job("interval", hours=1).schedule, stored)
        found = await bench.until(lambda: _about(bench, "added"))
    assert found == JobInfo("remember", "Words.", ("added",))


async def _about(bench: TermBench, job_id: str) -> JobInfo | None:
    return next(job.info for job in await bench.others.jobs() if job.id == job_id)


async def test_p3_a_ledger_that_cannot_be_written_at_first(bench: TermBench, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing runs unclaimed; the leader reports the reason, retries, and catches up later."""
    bench.job(coalesce=False)
    bench.job(id="known", coalesce=False)
    async with bench.term(1):
        await bench.until(lambda: len({run.job_id for run in bench.ran}) == 2)
    ran = len(bench.ran)
    bench.ledger.fault = LedgerError(FULL)
    with caplog.at_level(logging.INFO, "election"):
        async with bench.term(2) as work:
            assert work.problem == FULL
            tried = bench.ledger.tried
            await bench.until(lambda: bench.ledger.tried >= tried + 3)
            assert len(bench.ran) == ran
            assert work.problem == FULL
            bench.ledger.fault = None
            await bench.until(lambda: len(bench.ran) > ran)
            assert work.problem is None
            await bench.until(lambda: {run.job_id for run in bench.ran if run.term == 2} == {"job", "known"})
    (line,) = logged(caplog, "ledger_failed")
    assert FULL in line.getMessage()
    assert len(logged(caplog, "ledger_recovered")) == 1
    dues = sorted(run.due for run in bench.ran if run.job_id == "known")
    assert dues[-1] - dues[0] == timedelta(seconds=0.05) * (len(dues) - 1), "each of them was caught up with"
    await bench.agrees()


@pytest.mark.parametrize(
    "fault",
    [LedgerError(FULL), LedgerVersionError("too new"), RuntimeError("a bug of ours")],
    ids=lambda e: type(e).__name__,
)
async def test_p3_a_ledger_that_cannot_be_written_any_more(bench: TermBench, fault: Exception) -> None:
    bench.job(coalesce=False)
    async with bench.term(1) as work:
        await bench.until(lambda: len(bench.ran) >= 2)
        bench.ledger.fault = fault
        await bench.until(lambda: work.problem and not work.unfinished())
        assert work.problem == str(fault)
        tried, ran = bench.ledger.tried, len(bench.ran)
        await bench.until(lambda: bench.ledger.tried >= tried + 4)
        assert len(bench.ran) == ran
        bench.ledger.fault = None
        await bench.until(lambda: len(bench.ran) >= ran + 5)
        assert work.problem is None
    dues = [run.due for run in bench.by_due()]
    assert dues == [dues[0] + timedelta(seconds=0.05) * step for step in range(len(dues))], "none lost, none twice"
    await bench.agrees()


@pytest.mark.parametrize("grace", [None, 1])
async def test_p4_a_claim_whose_answer_was_lost_is_run_by_its_own_term(
    bench: TermBench, monkeypatch: pytest.MonkeyPatch, grace: int | None
) -> None:
    """It was called a run of a leader that was gone, and its tick had no run."""
    bench.job(seconds=10, misfire_grace_time=grace)
    real, cut = bench.ledger.record, [True]

    async def record(term: int, entries: Sequence[Entry]) -> list[bool]:
        granted = await real(term, entries)
        if any(isinstance(entry, Claim) for entry in entries) and cut:
            cut.clear()
            if grace is not None:
                bench.ledger.fault = LedgerError(FULL)
            raise LedgerError("the server has closed the connection")
        return granted

    monkeypatch.setattr(bench.ledger, "record", record)
    async with bench.term(1) as work:
        await bench.until(lambda: not cut)
        if grace is not None:
            await bench.clock.advance(5)
            bench.ledger.fault = None
        await bench.until(lambda: work.problem is None and len(bench.ran) == (2 if grace is None else 1))
    runs = {run.due: run for run in await bench.runs()}
    dues = [run.due for run in bench.by_due()]
    assert all(runs[due].outcome is Outcome.SUCCEEDED and runs[due].attempt == 1 for due in dues)
    assert len(dues) == len(set(dues))
    await bench.agrees()


@pytest.mark.parametrize("rerun_interrupted", [False, True])
@pytest.mark.parametrize("is_coroutine", [False, True])
async def test_p3_a_run_that_ended_while_the_ledger_was_away_is_no_orphan(
    bench: TermBench, rerun_interrupted: bool, is_coroutine: bool
) -> None:
    """Read back as open, it was settled as interrupted, or run a second time on the leader that had run it."""
    go_on, ended = threading.Event(), []

    def work_in_thread() -> None:
        bench.ran.append(current_run())
        assert go_on.wait(30)
        ended.append(True)

    async def work_on_loop() -> None:
        bench.ran.append(current_run())
        while not go_on.is_set():
            await bench.clock.sleep(0.001)
        ended.append(True)

    bench.thread_waits = True
    bench.job(work_on_loop if is_coroutine else work_in_thread, trigger="date", rerun_interrupted=rerun_interrupted)
    bench.job(id="ticking")
    async with bench.term(1) as work:
        await bench.until(lambda: [run for run in bench.ran if run.job_id == "job"])
        bench.ledger.fault = LedgerError(FULL)
        await bench.until(lambda: work.problem)
        go_on.set()
        bench.thread_waits = False
        await bench.until(lambda: ended and not work.unfinished())
        bench.ledger.fault = None
        await bench.until(lambda: work.problem is None)
        await looked(bench)
    [run] = await bench.runs(job_id="job")
    assert (run.outcome, run.attempt, list(run.attempts)) == (Outcome.SUCCEEDED, 1, [])
    assert len([run for run in bench.ran if run.job_id == "job"]) == 1
    await bench.agrees()


async def test_p3_a_run_that_ends_while_the_ledger_is_looked_at_is_not_run_again(bench: TermBench) -> None:
    """Another job is paused by a request; the run ends while the change is read."""
    go_on = asyncio.Event()

    async def work() -> None:
        bench.ran.append(current_run())
        await go_on.wait()

    async def let_it_end(state: State) -> None:
        if bench.ran and not go_on.is_set():
            go_on.set()
            await bench.wait(lambda: not leading.unfinished())
            await bench.wait(lambda: bench.runs(outcome="succeeded"))

    bench.job(work, trigger="date", rerun_interrupted=True)
    bench.job(id="another", seconds=1000)
    bench.ledger.after_changes = let_it_end
    async with bench.term(1) as leading:
        await bench.until(lambda: bench.ran)
        await bench.others.pause("another", True)
        await bench.until(go_on.is_set)
        await looked(bench)
    [run] = await bench.runs()
    assert (run.outcome, run.attempt) == (Outcome.SUCCEEDED, 1)
    assert len(bench.ran) == 1
    await bench.agrees()


async def test_p3_a_corrupt_ledger_in_mid_term(bench: TermBench, caplog: pytest.LogCaptureFixture) -> None:
    """The copy is set aside; the leader's memory prevents that a tick runs twice in the new ledger."""
    bench.ledger = FaultyLedger(bench.path, keeper=True, clock=bench.clock)
    bench.job(coalesce=False)
    async with bench.term(1) as work:
        await bench.until(lambda: len(bench.ran) >= 3)
        await bench.others.close()
        Path(bench.path).write_bytes(b"\xa5" * 50_000)
        await bench.ledger.close()
        await bench.until(lambda: logged(caplog, "ledger_failed"))  # the fault itself may be over at once
        assert "is corrupt" in caplog.text
        ran = len(bench.ran)
        await bench.until(lambda: len(bench.ran) >= ran + 3)
        assert work.problem is None
    assert "kept as" in caplog.text
    assert [name for name in os.listdir(os.path.dirname(bench.path)) if "corrupt" in name] != []
    dues = [run.due for run in bench.ran]
    assert len(dues) == len(set(dues))
    assert [term.term for term in await bench.others.terms()] == [1]
    assert (await verify(bench.others, now=bench.clock.now())).violations == ()


async def test_an_older_copy_of_the_ledger_makes_nothing_run_twice(
    bench: TermBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.job(coalesce=False)
    async with bench.term(1):
        await bench.until(lambda: len(bench.ran) >= 2)
        await bench.others.close()
        old = await asyncio.to_thread(_copy_of, bench.path)
        ran = len(bench.ran)
        await bench.until(lambda: len(bench.ran) >= ran + 3)
        os.replace(old, bench.path)
        await bench.until(lambda: logged(caplog, "ledger_failed"))  # the fault itself may be over at once
        assert "removed or replaced" in caplog.text
        ran = len(bench.ran)
        await bench.until(lambda: len(bench.ran) >= ran + 3)
    keys = [run.key for run in bench.ran]
    assert len(keys) == len(set(keys))


def _copy_of(path: str) -> str:
    source, target = sqlite3.connect(path), sqlite3.connect(path + ".old")
    source.backup(target)
    source.close()
    target.close()
    return path + ".old"


async def test_a_leader_comes_back_after_however_many_failures(bench: TermBench) -> None:
    """The delay between two tries stays finite: doubled a thousand times it was infinity."""
    bench.job(seconds=1000)
    bench.ledger.fault = LedgerError(FULL)
    async with bench.term(1) as work:
        await bench.until(lambda: bench.ledger.tried > 1500, limit=1500 * RETRY_MAX_DELAY_S)
        bench.ledger.fault = None
        await bench.until(lambda: work.problem is None)


async def test_a_plan_that_fails_is_made_again(
    bench: TermBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After any error the leader keeps polling; otherwise nobody could pause, resign or recover any more."""
    bench.job()
    async with bench.term(1) as work:
        await bench.until(lambda: bench.ran)
        monkeypatch.setattr(term_scheduler, "make_plan", lambda *_, **__: 1 / 0)
        await bench.others.pause("job", True)
        await bench.until(lambda: work.problem)
        assert "division by zero" in str(work.problem)
        monkeypatch.undo()
        await bench.until(lambda: work.problem is None)
        await bench.others.pause("job", False)
        ran = len(bench.ran)
        await bench.until(lambda: len(bench.ran) > ran)
    assert logged(caplog, "plan_failed") != []
    await bench.agrees()


async def test_the_end_of_a_term_that_cannot_be_told_is_no_error(
    bench: TermBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(*_: object) -> None:
        raise LedgerError(FULL)

    bench.job()
    async with bench.term(1):
        await bench.until(lambda: bench.ran)
        monkeypatch.setattr(bench.ledger, "end_term", refuse)
    (line,) = logged(caplog, "term_left_open")
    assert FULL in line.getMessage()
    assert [run for run in await bench.runs() if run.outcome is None] == []


# --- another term ----------------------------------------------------------------------------------------------------


async def test_p2_p3_a_term_that_is_over_does_not_begin(bench: TermBench) -> None:
    bench.job()
    await bench.others.begin_term(make_term(9), process())
    with pytest.raises(StaleTermError):
        async with bench.term(8):
            raise AssertionError("it began")
    assert bench.ran == []


async def test_p2_a_ledger_of_the_future_is_not_led_with(bench: TermBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seat is released, so that a worker with the newer schema can lead."""
    bench.job()
    await bench.others.jobs()
    await bench.others.close()
    with monkeypatch.context() as patch:
        patch.setattr("election.engines.file.schema.VERSION", schema.VERSION - 1)
        with pytest.raises(LedgerVersionError):
            async with bench.term(1):
                raise AssertionError("it began")


@pytest.mark.parametrize("busy", [True, False], ids=["with ticks to claim", "with nothing to do"])
async def test_p3_a_later_term_ends_this_one(bench: TermBench, busy: bool) -> None:
    """docs/pitfalls.md#41: the claim decides, not ``is_leader``; a leader without claims notices too."""
    bench.job(**({} if busy else {"seconds": 1000}))
    async with bench.term(1):
        await (bench.until(lambda: bench.ran) if busy else looked(bench))
        await bench.others.begin_term(make_term(2), process())
        ran = len(bench.ran)
        if not busy:
            await bench.others.request(Action.RUN, job_id="job")
        await bench.until(bench.lost.is_set)
    assert len(bench.ran) <= ran + 1
    assert {run.term for run in bench.ran} <= {1}
    assert {run.term for run in await bench.runs()} <= {1}
    assert (await bench.others.terms())[1].standing is Standing.LOST


# --- runs that a dead leader left open -------------------------------------------------------------------------------


async def leave_open(bench: TermBench, number: int = 1, seconds_ago: float = 0.3) -> Tick:
    """The remains of a leader that was killed in the middle of a run."""
    moment = bench.clock.now() - timedelta(seconds=seconds_ago)
    tick = Tick("job", moment + timedelta(seconds=0.05))
    [job] = list(bench.registry)
    await bench.others.begin_term(make_term(number), process())
    await bench.others.record(
        number, [RegisterJob("job", job.schedule, at=moment, since=moment), Claim(tick, tick.due)]
    )
    return tick


async def test_pitfall_39_an_open_run_is_settled_at_once_and_the_next_tick_runs(bench: TermBench) -> None:
    bench.job(coalesce=False)
    tick = await leave_open(bench)
    async with bench.term(2):
        await bench.until(lambda: len(bench.ran) >= 3)
    [first, *_] = await bench.runs()
    assert (first.due, first.outcome, first.term) == (tick.due, Outcome.INTERRUPTED, 1)
    assert first.error == "the leader of term 1 was gone before the run ended"
    assert bench.ran[0].due == tick.due + timedelta(seconds=0.05)
    await bench.agrees()


async def test_p4_an_open_run_is_tried_again_with_its_own_due_time(bench: TermBench) -> None:
    bench.job(coalesce=False, rerun_interrupted=True)
    tick = await leave_open(bench)
    async with bench.term(2):
        await bench.until(lambda: len(bench.ran) >= 3)
    again = Run("job", tick.due, term=2, attempt=2)
    assert again in bench.ran
    assert again.key == Run("job", tick.due, term=1).key, "an idempotency key is that of the tick"
    [first, *_] = await bench.runs()
    assert (first.due, first.outcome, first.term, first.attempt) == (tick.due, Outcome.SUCCEEDED, 2, 2)
    assert [(a["attempt"], a["term"], a["outcome"]) for a in first.attempts] == [(1, 1, "interrupted")]
    assert [run.key for run in bench.ran].count(again.key) == 1
    await bench.agrees()


async def test_retries_go_on_under_the_next_leader(bench: TermBench) -> None:
    """A tick that failed once, and whose leader resigned before the second attempt."""
    failing = [True]

    async def work() -> None:
        bench.ran.append(current_run())
        if failing[0]:
            raise ValueError("not yet")

    bench.job(work, trigger="date", retries=5, retry_backoff=60.0, rerun_interrupted=True)
    async with bench.term(1):
        await bench.until(lambda: _with_attempt(bench, 2))
    failing[0] = False
    async with bench.term(2):
        await bench.until(lambda: bench.runs(outcome="succeeded"))
    [run] = await bench.runs()
    assert [(a["attempt"], a["term"], a["outcome"]) for a in run.attempts] == [
        (1, 1, "failed"),
        (2, 1, "interrupted"),
    ]
    assert (run.attempt, run.term) == (3, 2)


async def _with_attempt(bench: TermBench, attempt: int) -> list[RunRow]:
    return [run for run in await bench.runs() if run.attempt == attempt]


# --- attempts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_coroutine", [True, False])
async def test_retries_with_back_off_are_attempts_of_one_tick(bench: TermBench, is_coroutine: bool) -> None:
    bench.options["poll_interval"] = 1.0
    began: list[float] = []

    def work() -> None:
        began.append(bench.clock.monotonic())
        bench.ran.append(current_run())
        if len(bench.ran) < 4:
            raise ValueError(f"attempt {len(bench.ran)}")

    async def work_on_loop() -> None:
        work()

    bench.job(work_on_loop if is_coroutine else work, trigger="date", retries=3, retry_backoff=7.0)
    async with bench.term(1):
        await bench.until(lambda: bench.runs(outcome="succeeded"))
    [run] = await bench.runs()
    assert run.attempt == 4
    assert [(a["attempt"], a["error"]) for a in run.attempts] == [
        (number, f"ValueError: attempt {number}") for number in (1, 2, 3)
    ]
    assert [run.attempt for run in bench.ran] == [1, 2, 3, 4]
    assert len({run.key for run in bench.ran}) == 1
    assert [after - before for before, after in pairwise(began)] == [7.0, 14.0, 28.0]


async def test_retries_come_to_an_end(bench: TermBench) -> None:
    async def work() -> None:
        bench.ran.append(current_run())
        raise ValueError("never")

    bench.job(work, trigger="date", retries=2, retry_backoff=0.001)
    async with bench.term(1):
        await bench.until(lambda: bench.runs(outcome="failed"))
    [run] = await bench.runs()
    assert (run.attempt, run.error, len(run.attempts)) == (3, "ValueError: never", 2)
    assert len(bench.ran) == 3


async def test_a_coroutine_that_takes_too_long_fails(bench: TermBench) -> None:
    async def work() -> None:
        await asyncio.sleep(60)

    bench.job(work, trigger="date", timeout=0.02)
    async with bench.term(1):
        await bench.until(lambda: bench.runs(outcome="failed"))
    [run] = await bench.runs()
    assert run.error == "TimeoutError: timed out: it ran for longer than its timeout of 0.02 s"


async def test_a_thread_that_takes_too_long_is_told_and_waited_for(
    bench: TermBench, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()
    bench.thread_waits = True
    bench.job(lambda: go_on.wait(30), trigger="date", timeout=0.02)
    async with bench.term(1) as work:
        await bench.until(lambda: logged(caplog, "thread_timed_out"))
        assert work.unfinished() == ["job"]
        go_on.set()
        bench.thread_waits = False
        await bench.until(lambda: bench.runs(outcome="succeeded"))


async def test_nothing_follows_a_thread_that_took_too_long(bench: TermBench, caplog: pytest.LogCaptureFixture) -> None:
    """A coroutine that the function returns after its timeout is not begun: nothing would end it any more."""
    go_on, began = threading.Event(), []

    async def rest() -> None:
        began.append(True)

    def work() -> Any:
        go_on.wait(30)
        return rest()

    bench.thread_waits = True
    bench.job(work, trigger="date", timeout=0.02)
    async with bench.term(1):
        await bench.until(lambda: logged(caplog, "thread_timed_out"))
        go_on.set()
        bench.thread_waits = False
        await bench.until(lambda: bench.runs(outcome="failed"))
    [run] = await bench.runs()
    assert run.error == "TimeoutError: timed out: it ran for longer than its timeout of 0.02 s"
    assert began == []


class _SaysNothingError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("plain"), "ValueError: plain"),
        (ValueError(), "ValueError"),
        (OSError("a file \udcff"), "OSError: a file \\udcff"),
        (ValueError("long" * 10**5), "ValueError: long"),
        (_SaysNothingError(), "_SaysNothingError: its __str__ failed"),
        (SystemExit(3), "SystemExit: 3"),
        (asyncio.CancelledError("by itself"), "CancelledError: by itself"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_p4_whatever_a_job_raises_its_run_is_settled(bench: TermBench, error: BaseException, told: str) -> None:
    """A text that no database can store blocked all later writes."""

    async def work() -> None:
        raise error

    bench.job(work, trigger="date", rerun_interrupted=True)
    bench.job(id="another")
    async with bench.term(1):
        await bench.until(lambda: bench.runs(outcome="failed"))
        await bench.until(lambda: bench.ran)
    [run] = await bench.runs(job_id="job")
    assert run.error is not None
    assert run.error.startswith(told)
    assert len(run.error) <= 2000


# --- what others ask for ---------------------------------------------------------------------------------------------


async def test_run_now_is_claimed_and_counted_like_any_tick(bench: TermBench) -> None:
    bench.job(seconds=1000)
    async with bench.term(1):
        numbers = [await bench.others.request(Action.RUN, job_id="job")]
        await bench.until(lambda: len(bench.ran) == 1)
        numbers.append(await bench.others.request(Action.RUN, job_id="job"))
        await bench.until(lambda: len(bench.ran) == 2)
        await looked(bench)
    assert [run.request for run in bench.ran] == numbers
    assert [(run.request, run.outcome) for run in await bench.runs()] == [(n, Outcome.SUCCEEDED) for n in numbers]
    assert bench.ran[0].key.endswith(f"#{numbers[0]}")
    assert (await bench.others.begin_term(make_term(2), process())).requests == []


async def test_run_now_respects_max_instances(bench: TermBench) -> None:
    go_on = asyncio.Event()

    async def work() -> None:
        bench.ran.append(current_run())
        await go_on.wait()

    bench.job(work, seconds=1000)
    async with bench.term(1):
        await bench.others.request(Action.RUN, job_id="job")
        await bench.until(lambda: bench.ran)
        await bench.others.request(Action.RUN, job_id="job")
        await bench.until(bench.others.skips)
        go_on.set()
    [skip] = await bench.others.skips()
    assert skip.reason is SkipReason.OVERLAP
    assert len(bench.ran) == 1


async def test_p8_a_skip_is_told_when_it_is_written(bench: TermBench) -> None:
    """It was told before, and at each new try."""
    go_on = asyncio.Event()
    refused: list[Skip] = []
    too_early: list[datetime] = []

    async def work() -> None:
        bench.ran.append(current_run())
        await go_on.wait()

    async def refuse_skips(entries: Sequence[Entry]) -> None:
        if not refused and (skips := [entry for entry in entries if isinstance(entry, Skip)]):
            refused.extend(skips)
            too_early.extend(told())
            raise LedgerError(FULL)

    def told() -> list[datetime]:
        return [event.first_due for event in bench.events if isinstance(event, TickSkipped)]

    bench.job(work)
    bench.ledger.before_record = refuse_skips
    async with bench.term(1):
        try:
            await bench.until(bench.others.skips)
        finally:
            go_on.set()
    assert refused
    assert too_early == []
    assert sorted(told()) == sorted(skip.first_due for skip in await bench.others.skips())


async def test_what_was_asked_for_while_nobody_led_is_done_by_the_next(bench: TermBench) -> None:
    bench.job(seconds=1000)
    async with bench.term(1):
        pass
    await bench.others.request(Action.RUN, job_id="job")
    async with bench.term(2):
        await bench.until(lambda: bench.ran)
    assert bench.ran[0].term == 2


async def test_a_request_that_could_not_be_claimed_is_carried_out_later(bench: TermBench) -> None:
    bench.job(seconds=1000)
    refused: list[Entry] = []

    async def refuse_claims(entries: Sequence[Entry]) -> None:
        if not refused and (claims := [entry for entry in entries if isinstance(entry, Claim)]):
            refused.extend(claims)
            raise LedgerError(FULL)

    bench.ledger.before_record = refuse_claims
    async with bench.term(1):
        await bench.others.request(Action.RUN, job_id="job")
        await bench.until(lambda: bench.ran)
        await looked(bench)
    assert len(refused) == 1
    assert len(bench.ran) == 1


async def test_requests_that_come_to_nothing_are_done_with(bench: TermBench) -> None:
    bench.job(seconds=1000)
    async with bench.term(2):
        await bench.others.store_job(
            "stored", *to_store(bench.registry, remember_soon, "interval", id="stored", seconds=1000)
        )
        numbers = [await bench.others.request(Action.RUN, job_id="stored")]
        await bench.others.remove_job("stored")
        numbers.append(await bench.others.request(Action.RESIGN, term=1))
        await looked(bench)
        await looked(bench)
        assert bench.resigned == [], "that was another's term"
    rows = [await bench.others.request_row(number) for number in numbers]
    assert [(row.outcome, row.reason) for row in rows if row is not None] == [
        (RequestOutcome.REFUSED, "there is no job 'stored' any more"),
        (RequestOutcome.REFUSED, "term 1 was over"),
    ]
    assert (await bench.others.begin_term(make_term(3), process())).requests == []


async def test_resign_is_carried_out_within_a_heartbeat(bench: TermBench) -> None:
    bench.job(seconds=1000)
    async with bench.term(3):
        await bench.others.request(Action.RESIGN, term=3)
        await bench.until(lambda: bench.resigned)
        await looked(bench)
    assert bench.resigned == [True]


async def test_pause_and_resume_are_carried_out_within_a_heartbeat(bench: TermBench) -> None:
    bench.job(coalesce=False)
    async with bench.term(1):
        await bench.until(lambda: bench.ran)
        await bench.others.pause("job", True)
        await looked(bench)
        await looked(bench)
        ran = len(bench.ran)
    async with bench.term(2):
        [state] = await bench.others.jobs()
        assert state.paused_at is not None, "it outlives the term"
        await bench.clock.advance((state.settled_until - bench.clock.now()).total_seconds() + 0.3)
        assert len(bench.ran) == ran
        await bench.others.pause("job", False)
        await bench.until(lambda: len(bench.ran) >= ran + 3)
    skips = await bench.skips()
    assert skips[SkipReason.PAUSED] >= 4
    assert set(skips) == {SkipReason.PAUSED}
    await bench.agrees()


async def test_jobs_come_and_go_at_run_time(bench: TermBench) -> None:
    stored_functions.CALLS.clear()
    bench.job(seconds=1000)

    async def add(seconds: float, value: int, replace: bool = False) -> None:
        description, job = to_store(
            bench.registry, remember_soon, "interval", id="stored", seconds=seconds, kwargs={"value": value}
        )
        await bench.others.store_job(
            "stored", description, job, if_exists=IfExists.REPLACE if replace else IfExists.ERROR
        )

    async with bench.term(1):
        await add(0.05, 1)
        await bench.until(lambda: 1 in stored_functions.CALLS)
        await add(0.05, 2, replace=True)
        await bench.until(lambda: 2 in stored_functions.CALLS)
        first = stored_functions.CALLS.index(2)
        assert set(stored_functions.CALLS[first:]) == {2}, "the first one was over by then"
    async with bench.term(2):
        count = len(stored_functions.CALLS)
        await bench.until(lambda: len(stored_functions.CALLS) > count)
        await bench.others.remove_job("stored")
        await looked(bench)
        await looked(bench)
        count = len(stored_functions.CALLS)
        await looked(bench)
        assert len(stored_functions.CALLS) <= count + 1
    runs = await bench.runs(job_id="stored")
    assert len(runs) == len(stored_functions.CALLS)
    await bench.agrees()


async def test_p4_a_job_that_is_replaced_owes_its_ticks_before_its_leader_has_looked(bench: TermBench) -> None:
    """The leader still hands over due ticks of the former schedule, and those no longer count."""
    stored_functions.CALLS.clear()
    bench.options["poll_interval"] = 1.0
    bench.job(seconds=1000)

    async def add(value: int, seconds: float) -> None:
        arguments = {"id": "stored", "seconds": seconds, "kwargs": {"value": value}}
        description, job = to_store(bench.registry, remember_soon, "interval", **arguments, **A_RUN_EACH)
        await bench.others.store_job("stored", description, job, if_exists=IfExists.REPLACE)

    await add(1, 0.05)
    async with bench.term(1):
        await bench.until(lambda: 1 in stored_functions.CALLS)
        await add(2, 0.06)
        [replaced] = [job for job in await bench.others.jobs() if job.id == "stored"]
        await bench.until(lambda: bench.handed_over("stored") > replaced.scheduled_since + timedelta(seconds=0.1))
        count = len(stored_functions.CALLS)
        await bench.until(lambda: stored_functions.CALLS.count(2) > 10)
    assert 1 not in stored_functions.CALLS[count:]
    runs = [run.due for run in await bench.runs(job_id="stored") if run.due > replaced.scheduled_since]
    assert runs == [replaced.scheduled_since + timedelta(seconds=0.06) * step for step in range(1, len(runs) + 1)]
    await bench.agrees()


async def test_p4_a_stored_interval_goes_on_in_its_phase_under_the_next_leader(bench: TermBench) -> None:
    """It was treated as a changed trigger at each takeover, and the ticks that it owed were dropped."""
    description, job = to_store(bench.registry, remember_soon, "interval", id="stored", seconds=0.05, **A_RUN_EACH)
    await bench.others.store_job("stored", description, job)
    for number in (1, 2, 3):
        async with bench.term(number):
            await bench.until(lambda number=number: _of_term(bench, number))
    runs = await bench.runs()
    assert [run.due for run in runs] == [runs[0].due + timedelta(seconds=0.05) * step for step in range(len(runs))]
    assert len(await bench.others.epochs()) == 1
    await bench.agrees()


async def _of_term(bench: TermBench, number: int) -> list[RunRow]:
    return [run for run in await bench.runs() if run.term == number]


async def test_a_stored_job_that_breaks_harms_no_other_and_heals(bench: TermBench, tmp_path: Path) -> None:
    module = tmp_path / "breaking_module.py"
    sys.path.insert(0, str(tmp_path))
    try:
        await bench.others.begin_term(make_term(1), process())
        description, stored = to_store(bench.registry, remember_soon, "interval", id="stored", seconds=0.05)
        broken = replace(stored, func="breaking_module:work")
        await bench.others.store_job("stored", description, broken)
        bench.job()
        async with bench.term(2):
            await bench.until(lambda: bench.ran)
            states = {state.id: state for state in await bench.others.jobs()}
            assert "breaking_module" in str(states["stored"].broken)
            module.write_text("async def work(): ...\n")
            importlib.invalidate_caches()
            await bench.others.pause("job", True)
            await bench.until(lambda: bench.runs(job_id="stored"))
        states = {state.id: state for state in await bench.others.jobs()}
        assert states["stored"].broken is None
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("breaking_module", None)
    await bench.agrees()


async def test_p4_a_job_whose_row_was_lost_goes_on(bench: TermBench) -> None:
    """The ledger refuses its ticks; they were refused for the rest of the term, and nothing told of it."""
    bench.job(seconds=1)
    bench.job(seconds=1, id="steady")
    async with bench.term():
        await bench.until(lambda: len(bench.ran) >= 4)
        with sqlite3.connect(bench.path) as connection:
            connection.execute("DELETE FROM jobs WHERE id = 'job'")
        connection.close()
        gone = bench.clock.now()

        def has_run() -> bool:
            return any(run.job_id == "job" and run.due > gone for run in bench.ran)

        await bench.until(has_run, limit=5)


# --- while a plan is written -----------------------------------------------------------------------------------------


async def test_ticks_that_fire_while_a_plan_is_written_are_not_handed_over_again(
    bench: TermBench, caplog: pytest.LogCaptureFixture
) -> None:
    """The scheduler continues meanwhile, and the plan's first tick may be in its past."""
    bench.job(coalesce=False)
    bench.job(id="another", seconds=1000)
    waited = []

    async def wait_for_ticks(entries: Sequence[Entry]) -> None:
        if any(isinstance(entry, EndPause) for entry in entries):
            last = bench.handed_over("job")
            await bench.wait(lambda: bench.handed_over("job") > last + timedelta(seconds=0.1))
            waited.append(True)

    bench.ledger.before_record = wait_for_ticks
    with caplog.at_level(logging.WARNING, "election"):
        async with bench.term(1):
            await bench.until(lambda: bench.ran)
            for number in range(1, 4):
                await bench.others.pause("another", True)
                await looked(bench)
                await bench.others.pause("another", False)
                await bench.until(lambda number=number: len(waited) == number)
            ran = len(bench.ran)
            await bench.until(lambda: len(bench.ran) > ran + 2)
    assert logged(caplog, "tick_skipped") == []
    await bench.agrees()


async def test_a_job_that_is_removed_while_a_plan_is_written_is_no_error(
    bench: TermBench, caplog: pytest.LogCaptureFixture
) -> None:
    description, job = to_store(bench.registry, remember_soon, "interval", id="stored", seconds=0.01)
    await bench.others.store_job("stored", description, job)
    bench.job()

    async def take_time(entries: Sequence[Entry]) -> None:
        if any(isinstance(entry, CompleteRequest) for entry in entries):
            last = bench.handed_over("job")
            await bench.wait(lambda: bench.handed_over("job") > last)

    bench.ledger.before_record = take_time
    async with bench.term(1):
        await bench.until(lambda: bench.ran)
        await bench.until(lambda: bench.runs(job_id="stored"))
        await bench.others.request(Action.RESIGN, term=0)
        await bench.others.remove_job("stored")
        await looked(bench)
        await looked(bench)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


# --- when time is not what it was ------------------------------------------------------------------------------------


async def test_pitfall_25_a_loop_that_was_blocked_for_four_seconds(bench: TermBench) -> None:
    """A one-second cron: APScheduler alone runs two ticks and drops the rest silently; here all four are explained."""
    bench.job(trigger="cron", second="*")
    async with bench.term(1):
        await bench.until(lambda: bench.ran)
        ran = len(bench.ran)
        bench.clock.block(4)
        await bench.until(lambda: len(bench.ran) > ran + 1)
    dues = {run.due for run in await bench.runs()}
    skipped = [row for row in await bench.others.skips() if row.reason is SkipReason.COALESCED]
    explained = sum(row.count or 0 for row in skipped) + len(dues)
    assert sum(row.count or 0 for row in skipped) >= 2
    assert explained == (max(dues) - min(dues)).total_seconds() + 1
    await bench.agrees()


@pytest.mark.parametrize(
    ("arguments", "ran_late"),
    [
        pytest.param({"trigger": "cron", "second": "*"}, 1, id="cron"),
        pytest.param({"seconds": 1}, 1, id="interval"),
        pytest.param({"seconds": 1, "misfire_grace_time": None}, 1, id="no grace limit"),
        pytest.param({"seconds": 1, "misfire_grace_time": None, "coalesce": False}, 51, id="each of them"),
    ],
)
async def test_pitfall_29_a_machine_that_slept_for_a_month(
    bench: TermBench, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], ran_late: int
) -> None:
    """The leader wakes, still in its seat: the month is one skip, and the number of ticks examined one by one is
    bounded.
    """
    calls: list[object] = []
    monkeypatch.setattr(ticks_module, "first_after", _counted(ticks_module.first_after, calls))
    monkeypatch.setattr(scheduler_adapter, "first_after", _counted(scheduler_adapter.first_after, calls))
    bench.options["catch_up_limit"] = 50
    bench.job(**arguments)
    async with bench.term(1) as work:
        await bench.until(lambda: bench.ran)
        ran, before = len(bench.ran), len(calls)
        bench.clock.step_wall_clock(timedelta(days=30))
        work._adapter._scheduler.wakeup()
        await bench.until(lambda: len(bench.ran) >= ran + 1)
        await bench.until(lambda: not work.unfinished())
        assert len(calls) - before < 1500
        assert ran + 1 <= len(bench.ran) <= ran + ran_late + 2
    [month] = [row for row in await bench.others.skips() if row.reason is SkipReason.DOWN]
    assert month.count is None
    assert month.last_due - month.first_due > timedelta(days=29)
    spans = [(run.due, run.due) for run in await bench.runs()]
    spans += [(row.first_due, row.last_due) for row in await bench.others.skips()]
    for (_, last), (first, _) in pairwise(sorted(spans)):
        assert timedelta(0) < first - last <= timedelta(seconds=1), "each tick in one of them"


async def test_pitfall_29_a_pool_that_slept_for_a_month(bench: TermBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next leader takes over as if an hour had passed."""
    bench.job(seconds=1, misfire_grace_time=None)
    counted = []
    for number, days in enumerate((0, 1, 30), 1):
        bench.clock.step_wall_clock(timedelta(days=days))
        calls: list[object] = []
        with monkeypatch.context() as patch:
            patch.setattr(ticks_module, "first_after", _counted(ticks_module.first_after, calls))
            async with bench.term(number):
                await bench.until(lambda number=number: [run for run in bench.ran if run.term == number])
        counted.append(len(calls))
    assert counted[2] < counted[1] + 100
    assert [row.count for row in await bench.others.skips() if row.reason is SkipReason.DOWN] == [None, None]


@pytest.mark.parametrize("step", [45, 3600, 86400])
async def test_pitfall_45_a_tick_after_the_clock_was_put_forward_is_in_time(bench: TermBench, step: int) -> None:
    """Nothing wakes the scheduler, whose timer was set by the former clock."""
    bench.options["poll_interval"] = 1000.0
    bench.job(trigger="date", run_date=at(step + 12), misfire_grace_time=5)
    async with bench.term(1):
        await bench.clock.advance(10)
        bench.clock.step_wall_clock(timedelta(seconds=step))
        await bench.clock.advance(3)
        assert [run.due for run in bench.ran] == [at(step + 12)]
    [start] = [event for event in bench.events if isinstance(event, RunStarted)]
    assert start.at - start.due <= timedelta(seconds=1)


async def test_pitfall_26_a_clock_that_steps_back_claims_nothing_twice(bench: TermBench) -> None:
    bench.job(coalesce=False)
    async with bench.term(1):
        await bench.until(lambda: len(bench.ran) >= 2)
        bench.clock.step_wall_clock(timedelta(hours=-1))
        for _ in range(5):
            await looked(bench)
        ran = len(bench.ran)
    async with bench.term(2):
        for _ in range(5):
            await looked(bench)
        assert len(bench.ran) == ran
        bench.clock.step_wall_clock(timedelta(hours=1))
    async with bench.term(3):
        await bench.until(lambda: len(bench.ran) > ran + 2)
    await bench.agrees()


def _counted(function: Callable[..., Any], calls: list[object]) -> Callable[..., Any]:
    def counted(*arguments: Any) -> Any:
        calls.append(None)
        return function(*arguments)

    return counted


async def test_p1_a_term_began_when_it_did_though_the_ledger_hears_of_it_later(bench: TermBench) -> None:
    """``verify`` uses that time to detect overlapping terms."""
    bench.job()
    bench.ledger.fault = LedgerError(FULL)
    async with bench.term(1):
        began_by = since_boot()
        bench.ledger.fault = None
        await bench.until(lambda: bench.ran)
    [row] = await bench.others.terms()
    assert row.began_ns <= began_by


async def test_p3_pitfall_69_a_leader_whose_ledger_was_migrated_by_a_newer_worker_resigns(bench: TermBench) -> None:
    """It claims nothing by rules that it does not support, and a newer worker can lead."""
    bench.job()
    async with bench.term(1):
        await bench.until(lambda: len(bench.ran) >= 3)
        newer = schema.VERSION + 1
        with contextlib.closing(sqlite3.connect(bench.path)) as somebody:
            somebody.execute(f"PRAGMA user_version={newer}")
        await bench.until(lambda: bench.resigned)
        ran = len(bench.ran)
        await bench.clock.advance(1)
        assert len(bench.ran) == ran
        assert "upgrade election in every worker" in str(bench.leading and bench.leading.problem)


@pytest.mark.parametrize("name", ["election scheduler", "election retention"])
async def test_a_task_of_the_term_that_something_else_cancels_ends_the_term(
    bench: TermBench, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    bench.options["retention"] = timedelta(days=1)
    bench.job()
    async with bench.term(1):
        [found] = [task for task in asyncio.all_tasks() if task.get_name() == name]
        found.cancel()
        await bench.until(lambda: bench.resigned)
        [line] = logged(caplog, "task_ended")
        assert name in line.getMessage()


async def test_p4_pitfalls_50_72_no_job_is_retired_while_a_worker_of_other_code_lives(
    bench: TermBench, caplog: pytest.LogCaptureFixture
) -> None:
    """A rolling deploy: old and new versions lead in turn, and each tick of both is settled."""
    bench.options |= MINUTES
    registries = {}
    for version in ("old", "new"):
        bench.registry = registries[version] = bench.new_registry()
        bench.job(id="both", seconds=10, start_date=NOW)
        bench.job(id=version, seconds=10, start_date=NOW, misfire_grace_time=600)
    bench.others_differ = True
    for number, version in enumerate(("old", "new", "old", "new"), start=1):
        bench.registry = registries[version]
        async with bench.term(number):
            await bench.clock.advance(30)
            if number > 1:
                assert "do not run" in (bench.context.warning or "")
            if number == 4:  # the deploy is over
                bench.others_differ = False
                await bench.until(lambda: bench.context.warning is None)
    known = {state.id: state for state in await bench.others.jobs()}
    assert known["old"].retired_at is not None
    assert (known["new"].retired_at, known["new"].broken) == (None, None)
    due = {name: [(run.due - NOW).total_seconds() for run in bench.by_due() if run.job_id == name] for name in known}
    assert due["both"] == list(range(10, 121, 10))
    assert due["old"] == [10, 20, 30, 60, 70, 80, 90], "the ticks of 40 to 60 coalesced"
    assert due["new"] == [40, 50, 60, 90, 100, 110, 120]
    assert len(logged(caplog, "jobs_kept")) == 3
    await bench.agrees()


async def test_pitfall_46_a_tick_that_waits_for_its_jitter_survives_each_new_plan(bench: TermBench) -> None:
    """Jitter longer than the grace, and another job that is paused and resumed repeatedly."""
    bench.options |= MINUTES
    bench.job(seconds=60, jitter=40, misfire_grace_time=2, start_date=NOW)
    bench.registry.add(print, "interval", id="other", hours=1)

    async def disturb() -> None:
        for number in range(1000):
            await bench.others.pause("other", number % 2 == 0)
            await bench.clock.sleep(3)

    async with bench.term(1):
        disturbing = asyncio.ensure_future(disturb())
        await bench.until(lambda: len(bench.ran) >= 4, limit=400)
        disturbing.cancel()
    async with bench.term(2):
        await bench.until(lambda: len(bench.ran) >= 6, limit=400)
    assert [(run.due - NOW) // timedelta(seconds=60) for run in bench.ran] == [1, 2, 3, 4, 5, 6]
    assert len({(run.due - NOW) % timedelta(seconds=60) for run in bench.ran}) == 6
    assert await bench.skips() == {}
    await bench.agrees()


async def test_a_burst_is_handed_over_in_slices(bench: TermBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop serves others in between, however many jobs are due at once; all of them run."""
    monkeypatch.setattr(scheduler_adapter, "MAX_HANDED_OVER", 4)
    for number in range(10):
        bench.job(trigger="date", run_date=at(5), id=f"job {number}")
    scheduler, looks = scheduler_adapter._Scheduler, list[int]()
    look, hand_over = scheduler._process_jobs, scheduler._hand_over

    def look_counted(self: Any) -> Any:
        looks.append(0)
        return look(self)

    def hand_over_counted(self: Any, *arguments: Any) -> None:
        looks[-1] += 1
        hand_over(self, *arguments)

    monkeypatch.setattr(scheduler, "_process_jobs", look_counted)
    monkeypatch.setattr(scheduler, "_hand_over", hand_over_counted)
    async with bench.term(1):
        await bench.clock.advance(6)
        await bench.until(lambda: len(bench.ran) == 10)
    assert [count for count in looks if count] == [4, 4, 2]
    assert {run.due for run in bench.ran} == {at(5)}
    await bench.agrees()


async def lose_ledger(bench: TermBench) -> None:
    await bench.ledger.close()
    await bench.others.close()
    for path in Path(bench.path).parent.glob(f"{Path(bench.path).name}*"):
        path.unlink()


async def test_p3_p4_a_ledger_that_was_lost_is_told(bench: TermBench, caplog: pytest.LogCaptureFixture) -> None:
    """The ticks of the time without a leader are skipped as lost; later ones run, without action by an operator."""
    bench.job(trigger="cron", second="*")
    async with bench.term(1):
        await bench.until(lambda: len(bench.ran) >= 2)
    await lose_ledger(bench)
    ended_at, earlier = bench.clock.now(), {run.due for run in bench.ran}
    bench.ran.clear()
    await bench.clock.advance(5)
    scheduler = bench.scheduler(7)
    bench.context.term = make_term(7, after=(1, ended_at), elected_at=bench.clock.now())
    async with scheduler:
        await bench.until(lambda: len(bench.ran) >= 2)
        assert "the ledger has no record of the terms before 7" in (bench.context.warning or "")
    assert len(logged(caplog, "ledger_lost")) == 1
    assert await bench.skips() == {SkipReason.LOST: 5}
    assert earlier.isdisjoint(run.due for run in bench.ran)
    assert (await verify(bench.others, now=bench.clock.now())).missing_terms == 6
    await bench.agrees()


async def test_p3_p4_a_ledger_that_is_lost_within_the_term(bench: TermBench) -> None:
    """Its leader goes on with the same schedules: no tick is lost, a single run and a first run come once."""
    bench.job(seconds=1, coalesce=False)
    bench.job(trigger="date", id="once")
    bench.job(seconds=3600, first_run="now", id="first")
    async with bench.term(1):
        await bench.until(lambda: len(bench.ran) >= 5)
        for path in Path(bench.path).parent.glob(f"{Path(bench.path).name}*"):
            path.unlink()
        await bench.until(lambda: len(bench.ran) >= 10)
    dues = sorted(run.due for run in bench.ran if run.job_id == "job")
    assert {later - due for due, later in pairwise(dues)} == {timedelta(seconds=1)}
    assert sorted(run.job_id for run in bench.ran if run.job_id != "job") == ["first", "once"]


async def test_a_pool_without_jobs_has_lost_nothing(bench: TermBench, caplog: pytest.LogCaptureFixture) -> None:
    """Its ledger knows the term before."""
    async with bench.term(1):
        ended_at = bench.clock.now()
    await bench.clock.advance(5)
    bench.registry = bench.new_registry()
    bench.job(trigger="cron", second="*")
    scheduler = bench.scheduler(2)
    bench.context.term = make_term(2, after=(1, ended_at), elected_at=bench.clock.now())
    async with scheduler:
        await bench.until(lambda: len(bench.ran) >= 1)
    assert logged(caplog, "ledger_lost") == []
    assert await bench.skips() == {}


async def test_pitfall_49_a_copied_ledger_is_told_until_it_is_adopted(
    bench: TermBench, caplog: pytest.LogCaptureFixture
) -> None:
    """The ticks that the original owed are not run, those from now on are, without action by an operator."""
    bench.job(seconds=1)
    async with bench.term(1):
        await bench.until(lambda: len(bench.ran) >= 2)
    await bench.others.close()
    Path(bench.path).rename(f"{bench.path}.original")
    shutil.copy(f"{bench.path}.original", bench.path)
    await bench.clock.advance(5)
    ran, copied_at = len(bench.ran), bench.clock.now()
    async with bench.term(2):
        await bench.until(lambda: len(bench.ran) >= ran + 2)
        assert bench.context.warning is not None
        assert "this ledger was copied or restored" in bench.context.warning
        assert len(logged(caplog, "ledger_copied")) == 1
        assert await bench.others.adopt()
        await bench.until(lambda: bench.context.warning is None)
    assert all(run.due > copied_at for run in bench.ran[ran:])
    assert await bench.skips() == {SkipReason.COPIED: 5}
    await bench.agrees()


async def test_p5_no_attempt_begins_without_the_seat(bench: TermBench) -> None:
    """The loop was blocked for longer than its trust: a back-off is over before the next heartbeat can tell of that."""

    async def fails() -> None:
        bench.ran.append(current_run())
        raise ValueError

    bench.job(fails, trigger="date", retries=1, retry_backoff=5.0)
    is_held = True
    scheduler = bench.scheduler(1)
    scheduler._writer._is_held = lambda: is_held
    async with scheduler as bench.leading:
        await bench.until(lambda: bench.ran)
        is_held = False
        await bench.clock.advance(6)
        assert len(bench.ran) == 1
        assert bench.lost.is_set()


async def test_a_request_is_carried_out_once_however_often_it_is_read(bench: TermBench) -> None:
    """Its skip waits for another write, and the next look at the ledger finds the request open."""
    go, gate, held = asyncio.Event(), asyncio.Event(), [False]
    looks = 0

    async def hold(entries: Sequence[Entry]) -> None:
        if not held[0] and any(isinstance(entry, Claim) and entry.tick.job_id == "other" for entry in entries):
            held[0] = True
            await gate.wait()

    async def count(_: State) -> None:
        nonlocal looks
        looks += 1

    bench.job(go.wait, trigger="date", id="busy")
    bench.job(seconds=1, id="other")
    bench.ledger.before_record, bench.ledger.after_changes = hold, count
    async with bench.term(1):
        await bench.until(lambda: held[0])
        number = await bench.others.request(Action.RUN, job_id="busy")
        await bench.until(lambda: looks >= 1)
        await bench.others.request(Action.RESIGN, term=0)
        await bench.until(lambda: looks >= 2)
        gate.set()
        await bench.others.request(Action.RESIGN, term=0)
        await bench.until(lambda: looks >= 3)
        go.set()
    assert [skip.request for skip in await bench.others.skips() if skip.request] == [number]


async def test_p4_a_claim_that_fails_while_the_term_is_opened_again_is_not_forgotten(bench: TermBench) -> None:
    """The plan, which takes its tick for handed over, is not written without it."""
    gate, held = asyncio.Event(), [False]

    async def hold(entries: Sequence[Entry]) -> None:
        if not held[0] and any(isinstance(entry, Claim) for entry in entries):
            held[0] = True
            await gate.wait()
            raise LedgerError("the connection was reset")

    def is_planned() -> bool:
        waiting = [entry for claim in work._writer._claims for entry in claim.entries]
        return any(isinstance(entry, CompleteRequest) for entry in waiting)

    bench.job(seconds=1, coalesce=False)
    bench.ledger.before_record = hold
    async with bench.term(1) as work:
        await bench.until(lambda: held[0])
        bench.ledger.fault = LedgerError("no answer")
        await bench.until(lambda: work.problem)
        await bench.others.request(Action.RESIGN, term=0)
        bench.ledger.fault = None
        await bench.until(is_planned)
        gate.set()
        await bench.clock.advance(4)
    await bench.agrees()


async def test_p4_a_claim_without_an_answer_is_run_though_the_first_plan_fails(
    bench: TermBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.job(trigger="date", run_date=NOW + timedelta(seconds=1))
    real, faults = bench.ledger.record, ["the answer", "the plan"]

    async def record(term: int, entries: Sequence[Entry]) -> list[bool]:
        granted = await real(term, entries)
        if faults == ["the answer", "the plan"] and any(isinstance(entry, Claim) for entry in entries):
            faults.pop(0)
            await bench.others.request(Action.RESIGN, term=0)  # so that the next plan has something to write
            raise LedgerError("the server has closed the connection")
        if faults == ["the plan"] and any(isinstance(entry, CompleteRequest) for entry in entries):
            faults.clear()
            raise LedgerError("again")
        return granted

    monkeypatch.setattr(bench.ledger, "record", record)
    async with bench.term(1):
        await bench.until(lambda: bench.ran)
    assert faults == []
    [run] = await bench.runs()
    assert (run.outcome, run.attempt) == (Outcome.SUCCEEDED, 1)
    await bench.agrees()


async def test_a_lost_term_cancels_its_code_though_the_ledger_does_not_answer(bench: TermBench) -> None:
    """A read in a thread cannot be called off; the code of a lost term went on until it had ended."""
    begun, cancelled, reading = asyncio.Event(), asyncio.Event(), asyncio.Event()
    answer: Future[None] = Future()

    async def holds() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def hold(_: State) -> None:
        reading.set()
        await in_passing(answer)

    bench.job(holds, trigger="date")
    bench.job(id="another", seconds=1000)
    async with bench.term(1):
        await bench.until(begun.is_set)
        bench.ledger.after_changes = hold
        await bench.others.pause("another", True)
        await bench.until(reading.is_set)
        bench.lost.set()
        answering = asyncio.create_task(_answer_after(cancelled, answer))
    assert await answering, "the code was cancelled before the answer came"


async def _answer_after(cancelled: asyncio.Event, answer: Future[None]) -> bool:
    """Answer when the code has been cancelled, or after a minute without that."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(cancelled.wait(), 60)
    in_time = cancelled.is_set()
    answer.set_result(None)
    return in_time


@pytest.mark.parametrize("change", ["pause", "reset"])
async def test_p4_a_plan_does_not_overtake_claims_that_wait_to_be_written(bench: TermBench, change: str) -> None:
    """It settled their ticks, so that they had neither a run nor a skip, or both."""
    held, go_on = asyncio.Event(), asyncio.Event()

    async def hold(entries: Sequence[Entry]) -> None:
        if any(isinstance(entry, FinishRun) and entry.tick.job_id == "busy" for entry in entries):
            held.set()
            await go_on.wait()

    bench.options["poll_interval"] = 0.5
    bench.job(seconds=10, coalesce=False)
    async with bench.term(1):
        await bench.until(lambda: bench.ran)
    every_seven = describe(IntervalTrigger(seconds=7, start_date=bench.clock.now()), bench.clock.now(), True)
    await bench.others.modify_job("job", lambda _: RescheduleJob("job", every_seven))
    bench.job(id="busy", trigger="date", run_date=bench.clock.now() + timedelta(seconds=20))
    bench.ledger.before_record = hold
    async with bench.term(2) as term:
        await bench.until(held.is_set)
        first = bench.handed_over("job")
        await bench.until(lambda: bench.handed_over("job") > first + timedelta(seconds=7))
        if change == "reset":
            await bench.others.modify_job("job", reset)
        else:
            await bench.others.pause("job", True)
            await bench.others.pause("job", False)
        await bench.clock.advance(3)
        go_on.set()
        await bench.until(lambda: not term.unfinished())
        await looked(bench)
    await bench.agrees()


async def test_a_start_within_a_pause_is_no_tick_later_either(bench: TermBench) -> None:
    """With at_start=True, any plan after the one that resumed the job ran it."""
    bench.job(seconds=1000, at_start=True)
    bench.job(id="other", seconds=1000)
    async with bench.term(1):
        await bench.until(lambda: bench.ran)
    await bench.others.pause("job", True)
    async with bench.term(2):
        await looked(bench)
        await bench.others.pause("job", False)
        await looked(bench)
        await bench.others.pause("other", True)
        await looked(bench)
        await bench.clock.advance(1)
    assert len(bench.ran) == 1
