"""Scope of a term: jobs and tasks that start with it, and the drain at its end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from election import NotStartedError, Run, current_run
from election.core.errors import JobDefinitionError, UnfinishedJobsError
from election.core.term_context import TermContext
from election.engines.file.ledger import SqliteLedger
from election.schedule.job_runner import MAX_THREADS
from election.schedule.jobs import JobRegistry
from election.schedule.tasks import MAX_RESTART_DELAY_S, TaskRegistry
from election.schedule.term_scheduler import ScheduleOptions, TermScheduler
from election.testing import ManualClock
from tests.schedule.ledger_thread import LedgerThread
from tests.schedule.making import NOW, make_term
from tests.support.logs import logged
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio

NEVER = 3600.0
"""Seconds: a drain limit that no test reaches."""

OFTEN = {"trigger": "interval", "seconds": 0.01}


async def no_peers() -> bool:
    return False


class FakeWorker:
    """Jobs and tasks of one worker, whose terms the test begins.

    drain_timeout: seconds.
    """

    def __init__(self, *, drain_timeout: float = NEVER, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock(NOW, busy=self.busy)
        self.ledger = SqliteLedger(":memory:", clock=self.clock)
        self.ledger_thread = LedgerThread(self.ledger)
        self.jobs = JobRegistry({}, self.clock)
        self.tasks = TaskRegistry()
        self.options = ScheduleOptions(
            drain_timeout=drain_timeout,
            poll_interval=0.05,
            catch_up_limit=1000,
            retention=None,
            scheduler_options={},
        )
        self.scheduler: TermScheduler | None = None

    def begin(self, context: TermContext) -> TermScheduler:
        self.scheduler = TermScheduler(context, self.jobs, self.tasks, self.ledger, self.clock, self.options)
        return self.scheduler

    def unfinished(self) -> list[str]:
        return self.scheduler.unfinished() if self.scheduler is not None else []

    def busy(self) -> bool:
        """Whether the term waits for its ledger, or for a job in a thread that does not wait for the test."""
        in_threads = set(self.scheduler._executor._runner.in_threads()) if self.scheduler is not None else set()
        return self.ledger_thread.busy or bool(in_threads - {"thread"})

    async def until(self, fact: Callable[[], Any]) -> None:
        """Let time pass until ``fact`` is true."""
        await self.clock.advance_until(fact, limit=60)

    def once(self, func: Callable[..., Any], **arguments: Any) -> None:
        """Register a job that is due as soon as a term begins."""
        self.jobs.add(func, "date", run_date=self.clock.now(), id=func.__name__, **arguments)

    def often(self, func: Callable[..., Any], **arguments: Any) -> None:
        """Register a job that is due repeatedly."""
        self.jobs.add(func, id=func.__name__, **{**OFTEN, **arguments})

    @contextlib.asynccontextmanager
    async def term(self, number: int = 1) -> AsyncIterator[OpenTerm]:
        """A term; leaving the scope ends it if the test has not."""
        term = OpenTerm(self, number)
        await term.began.wait()
        try:
            yield term
        except BaseException:
            term.task.cancel()  # a failed test waits for nothing
            raise
        term.end()
        await term.task


class OpenTerm:
    """One term, whose end the test can begin and then watch."""

    def __init__(self, worker: FakeWorker, number: int) -> None:
        self.lost = asyncio.Event()
        self.context = TermContext(
            make_term(number, pid=1),
            self.lost,
            is_held=lambda: True,
            resign=lambda: None,
            emit=lambda _: None,
            peers_differ=no_peers,
        )
        self.began = asyncio.Event()
        self._ending = asyncio.Event()
        self._bench = worker
        self.task = asyncio.create_task(self._hold())

    async def _hold(self) -> None:
        async with self._bench.begin(self.context):
            self.began.set()
            await self._ending.wait()

    @property
    def over(self) -> bool:
        return self.task.done()

    def end(self) -> None:
        self._ending.set()

    def lose(self) -> None:
        self.lost.set()
        self._ending.set()

    async def is_over(self) -> None:
        await until_async(lambda: self.over, what="the scope is left")


class Job:
    """Code that records when it runs, and ends when the test allows it."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.told: list[str] = []
        self.runs = 0

    async def coroutine(self) -> None:
        self.runs += 1
        self.told.append("begin")
        try:
            while not self.may_end.is_set():
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.told.append("cancelled")
            raise
        self.told.append("end")

    def thread(self) -> None:
        self.runs += 1
        self.told.append("begin")
        self.may_end.wait(60)
        self.told.append("end")

    async def runs_now(self) -> None:
        await until_async(lambda: "begin" in self.told, what="the job runs")


@pytest.fixture
def job() -> Any:
    job = Job()
    yield job
    job.may_end.set()


def limit_has_passed(caplog: pytest.LogCaptureFixture) -> bool:
    return logged(caplog, "drain_timed_out") != []


async def turns() -> None:
    """Let the loop run several turns: enough for anything that would happen at once."""
    for _ in range(20):
        await asyncio.sleep(0)


# --- the beginning ------------------------------------------------------------------------------------------------


async def test_nothing_runs_outside_of_a_term() -> None:
    """P5, P7: no scheduler, task or thread exists before a term or after it."""
    worker, ran, began = FakeWorker(), [], asyncio.Event()

    async def tick() -> None:
        ran.append(current_run().term)

    async def task() -> None:
        began.set()

    worker.often(tick)
    worker.tasks.add(task)
    threads = threading.active_count()
    await turns()
    assert worker.unfinished() == []
    assert not began.is_set()
    async with worker.term():
        await worker.until(lambda: ran and began.is_set())
    assert worker.unfinished() == []
    await until_async(lambda: threading.active_count() <= threads)
    count = len(ran)
    await worker.clock.advance(0.05)  # five ticks' time
    assert len(ran) == count


async def test_a_job_gets_its_arguments() -> None:
    worker, got = FakeWorker(), []

    async def tick(*args: int, **kwargs: int) -> None:
        got.append((args, kwargs))

    worker.once(tick, args=[1, 2], kwargs={"three": 3})
    async with worker.term():
        await until_async(lambda: got)
    assert got == [((1, 2), {"three": 3})]


async def test_two_terms_of_one_process_both_run_the_jobs() -> None:
    """docs/pitfalls.md#28: a scheduler has no jobs left after its shutdown, so each term has a new one."""
    worker, ran = FakeWorker(), []

    async def on_the_loop() -> None:
        ran.append(("loop", current_run().term))

    def in_a_thread() -> None:
        ran.append(("thread", current_run().term))

    worker.often(on_the_loop)
    worker.often(in_a_thread)
    for number in (1, 2, 7):
        async with worker.term(number):
            await worker.until(lambda number=number: {("loop", number), ("thread", number)} <= set(ran))
    assert [term for _, term in ran] == sorted(term for _, term in ran), "no run of a term after its end"


async def test_a_job_runs_again_when_it_has_ended_and_not_before() -> None:
    """APScheduler's ``max_instances``, counted by the executor: no overlap, and no standstill."""
    worker, running, most, count = FakeWorker(), 0, 0, 0

    async def tick() -> None:
        nonlocal running, most, count
        running, count = running + 1, count + 1
        most = max(most, running)
        await worker.clock.sleep(0.03)  # three ticks long
        running -= 1
        if count == 2:
            raise RuntimeError("and the count is kept in spite of it")

    worker.often(tick)
    async with worker.term() as term:
        await worker.until(lambda: count >= 4)
        term.end()
        await worker.until(lambda: term.over)
    assert most == 1


# --- the drain of a term that is resigned -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_a_running_job_ends_before_the_scope_is_left(job: Job, kind: str) -> None:
    """P5 and docs/pitfalls.md#23: APScheduler's shutdown waits for neither; ours waits for both."""
    worker = FakeWorker()
    worker.once(getattr(job, kind))
    async with worker.term() as term:
        await job.runs_now()
        term.end()
        await turns()
        assert not term.over
        assert worker.unfinished() == [kind]
        job.may_end.set()
        await term.is_over()
        assert job.told == ["begin", "end"]
        assert worker.unfinished() == []


async def test_no_tick_begins_during_the_drain(job: Job) -> None:
    """P5, "resign: stop new ticks": however long the drain takes, and however often another job is due."""
    worker, began = FakeWorker(), []

    async def tick() -> None:
        began.append(worker.clock.monotonic())

    worker.often(tick)
    worker.once(job.thread)
    async with worker.term() as term:
        await job.runs_now()
        await worker.until(lambda: began)
        term.end()
        await turns()
        scheduler = worker.scheduler
        assert scheduler is not None
        await until_async(lambda: not scheduler._executor._claims, what="what was asked for before is granted")
        await turns()
        draining_since = worker.clock.monotonic()
        await worker.clock.advance(0.05)  # five ticks' time
        assert not term.over
        job.may_end.set()
        await term.is_over()
    assert [at for at in began if at > draining_since] == []


async def test_at_the_limit_coroutines_are_cancelled(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    """P5: and the log names them."""
    worker = FakeWorker(drain_timeout=0.05)
    worker.once(job.coroutine)
    async with worker.term() as term:
        await job.runs_now()
        term.end()
        await worker.until(lambda: term.over)
    assert job.told == ["begin", "cancelled"]
    (line,) = logged(caplog, "drain_timed_out")
    assert "coroutine" in line.getMessage()


async def test_at_the_limit_threads_are_waited_for_all_the_same(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    """P5: if a thread cannot be stopped, the seat stays held until it ends or the process does."""
    worker = FakeWorker(drain_timeout=0.05)
    worker.once(job.thread)
    async with worker.term() as term:
        await job.runs_now()
        term.end()
        await worker.until(lambda: limit_has_passed(caplog))
        await turns()
        assert not term.over
        assert worker.unfinished() == ["thread"]
        job.may_end.set()
        await term.is_over()
        assert job.told == ["begin", "end"]


async def test_a_coroutine_that_takes_its_time_to_be_cancelled_gets_it(caplog: pytest.LogCaptureFixture) -> None:
    """P5: clean-up in a job is job code too."""
    worker, told, may_end = FakeWorker(drain_timeout=0.01), [], asyncio.Event()

    async def tidy() -> None:
        told.append("begin")
        try:
            await asyncio.Event().wait()
        finally:
            told.append("cleaning")
            await may_end.wait()
            told.append("end")

    worker.once(tidy)
    async with worker.term() as term:
        await until_async(lambda: told)
        term.end()
        await worker.until(lambda: "cleaning" in told)
        await turns()
        assert not term.over
        assert worker.unfinished() == ["tidy"]
        may_end.set()
    assert told == ["begin", "cleaning", "end"]


async def test_an_idle_term_ends_at_once() -> None:
    """P6: a drain without work costs the successor nothing."""
    worker = FakeWorker()

    async def rare() -> None: ...

    worker.jobs.add(rare, "interval", hours=1)
    async with worker.term() as term:
        term.end()
        await term.is_over()
    assert worker.clock.monotonic() == 0


async def test_the_term_that_follows_is_not_slowed_down_by_threads_that_were(job: Job) -> None:
    """P5: each term has its own threads, and those of the last term have ended with it."""
    worker = FakeWorker()
    worker.once(job.thread)
    async with worker.term():
        await job.runs_now()
        job.may_end.set()
    await until_async(
        lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("election-job")],
        what="the threads of the term are gone",
    )


# --- a term that is lost ------------------------------------------------------------------------------------------


async def test_a_lost_term_has_no_grace(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    """A lost term cancels its jobs at once: another worker may be waiting to lead."""
    worker = FakeWorker(drain_timeout=NEVER)
    worker.once(job.coroutine)
    async with worker.term() as term:
        await job.runs_now()
        term.lose()
        await term.is_over()
    assert job.told == ["begin", "cancelled"]
    assert not limit_has_passed(caplog)


async def test_a_term_that_is_lost_during_its_drain_has_no_more_grace(job: Job) -> None:
    worker = FakeWorker(drain_timeout=NEVER)
    worker.once(job.coroutine)
    async with worker.term() as term:
        await job.runs_now()
        term.end()
        await turns()
        assert job.told == ["begin"]
        term.lose()
        await term.is_over()
    assert job.told == ["begin", "cancelled"]


async def test_a_lost_term_is_not_left_before_its_threads_have_ended(job: Job) -> None:
    """P5: even after a loss, jobs of two leaders never run at the same time if that can be prevented."""
    worker = FakeWorker()
    worker.once(job.thread)
    async with worker.term() as term:
        await job.runs_now()
        term.lose()
        await turns()
        assert not term.over
        job.may_end.set()
        await term.is_over()
    assert job.told == ["begin", "end"]


async def test_a_job_that_waits_for_a_thread_does_not_begin_in_a_lost_term() -> None:
    """P5: no job starts once the term is known to be lost; there may be more jobs than threads."""
    worker, may_end, begun = FakeWorker(), threading.Event(), []

    def block() -> None:
        begun.append(1)
        may_end.wait(60)

    for number in range(100):
        worker.jobs.add(block, "date", run_date=worker.clock.now(), id=f"block-{number}")
    async with worker.term() as term:
        await until_async(
            lambda: len(worker.unfinished()) == 100 and len(begun) == MAX_THREADS, what="all jobs are due"
        )
        await turns()
        scheduler = worker.scheduler
        assert scheduler is not None
        term.lose()
        await until_async(lambda: not scheduler._executor.queued(), what="what waits is taken back")
        may_end.set()
        await term.is_over()
    assert len(begun) == MAX_THREADS < 100


# --- when the event loop itself goes down -------------------------------------------------------------------------


async def test_a_cancelled_scope_is_drained_like_any_other(job: Job) -> None:
    """P5: cancelling an elector ends the term in order, and then raises the cancellation."""
    worker = FakeWorker()
    worker.once(job.coroutine)
    term = OpenTerm(worker, 1)
    await job.runs_now()
    term.task.cancel()
    await turns()
    assert not term.over
    job.may_end.set()
    await term.is_over()
    assert term.task.cancelled()
    assert job.told == ["begin", "end"]


async def test_a_drain_that_is_cancelled_takes_its_coroutines_along(job: Job) -> None:
    """P5: the loop is shutting down; everything that can be stopped is stopped now, and nothing is left."""
    worker = FakeWorker()
    worker.once(job.coroutine)
    term = OpenTerm(worker, 1)
    await job.runs_now()
    term.end()
    await turns()
    term.task.cancel()
    await term.is_over()
    assert term.task.cancelled()
    assert job.told == ["begin", "cancelled"]


async def test_a_drain_that_is_cancelled_with_a_thread_in_it_says_so(job: Job) -> None:
    """P5: nothing can stop a thread, so its caller must keep the seat; the error names the job."""
    worker = FakeWorker()
    worker.once(job.thread)
    term = OpenTerm(worker, 1)
    await job.runs_now()
    term.end()
    await turns()
    term.task.cancel()
    await worker.until(lambda: term.over)
    with pytest.raises(UnfinishedJobsError, match="still running: thread"):
        await term.task
    assert worker.unfinished() == ["thread"]
    job.may_end.set()
    await until_async(lambda: worker.unfinished() == [])
    await worker.ledger.close()  # the run that has ended was recorded, which reopened the ledger


# --- runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["coroutine", "thread"])
@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit(3)], ids=["Exception", "SystemExit"])
async def test_a_job_that_raises_has_failed_and_nothing_else(
    where: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """A job that raises ``SystemExit`` has failed; the worker has not, and serves requests. The job runs at its next
    tick.
    """
    worker, runs, other = FakeWorker(), 0, 0

    def fails() -> None:
        nonlocal runs
        runs += 1
        raise error

    async def fails_on_the_loop() -> None:
        fails()

    async def goes_on() -> None:
        nonlocal other
        other += 1

    worker.often(fails if where == "thread" else fails_on_the_loop)
    worker.often(goes_on)
    async with worker.term():
        await worker.until(lambda: runs >= 2 and other >= 2)
    told = logged(caplog, "run_failed")
    assert len(told) >= 2
    assert told[0].levelno == logging.ERROR
    assert "fails" in told[0].getMessage()
    assert told[0].exc_info is not None
    assert told[0].exc_info[0] is type(error)


async def test_a_thread_job_may_raise_stop_iteration() -> None:
    """P5: ``next(iter([]))`` in a job is an error like any other; it must not keep the seat for ever."""
    worker, ran = FakeWorker(), threading.Event()

    def exhausted() -> None:
        ran.set()
        raise StopIteration

    loop_told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: loop_told.append(context))
    worker.once(exhausted)
    term = OpenTerm(worker, 1)
    try:
        await until_async(ran.is_set)
        term.end()
        await term.is_over()
        await term.task
        assert loop_told == []
    finally:
        term.task.cancel()
        await asyncio.gather(term.task, return_exceptions=True)


async def test_a_run_knows_what_it_is() -> None:
    """Available on the loop, in a thread, and in functions called there; the term is the fencing token
    (docs/pitfalls.md#27)."""
    worker, runs = FakeWorker(), {}

    def look(name: str) -> None:
        runs[name] = current_run()

    async def on_the_loop() -> None:
        look("on_the_loop")
        await asyncio.create_task(deeper())
        await asyncio.to_thread(look, "to_thread")

    async def deeper() -> None:
        look("deeper")

    def in_a_thread() -> None:
        look("in_a_thread")
        contextvars.copy_context().run(look, "copied")

    began = worker.clock.now()
    worker.jobs.add(on_the_loop, id="loop-job", **OFTEN)
    worker.jobs.add(in_a_thread, id="thread-job", **OFTEN)
    async with worker.term(42):
        await worker.until(lambda: {"on_the_loop", "in_a_thread"} <= runs.keys())
        await until_async(lambda: len(runs) == 5)
    for name, run in runs.items():
        assert run.job_id == ("thread-job" if name in {"in_a_thread", "copied"} else "loop-job")
        assert (run.term, run.attempt) == (42, 1)
        assert run.due.utcoffset() == timedelta(0)
        assert began - timedelta(seconds=1) < run.due <= worker.clock.now()
        assert run.key == f"{run.job_id}@{run.due.isoformat()}"


async def test_there_is_no_run_outside_of_a_job() -> None:
    """Not even in the code that opened the term, nor in a task beside the jobs."""
    worker, told = FakeWorker(), []

    async def task() -> None:
        try:
            current_run()
        except NotStartedError as error:
            told.append(str(error))

    worker.tasks.add(task)
    async with worker.term():
        await until_async(lambda: told)
        with pytest.raises(NotStartedError, match="outside of a job"):
            current_run()


async def test_the_key_of_a_tick_is_the_same_wherever_it_is_written() -> None:
    """P3: an idempotency key for other systems must not depend on a worker's time zone."""
    due = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    elsewhere = due.astimezone(datetime.strptime("+0530", "%z").tzinfo)
    assert Run("app:job", due, 1).key == Run("app:job", elsewhere, 2, attempt=3).key == f"app:job@{due.isoformat()}"


# --- while_leading ------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


async def test_a_task_lives_as_long_as_the_term() -> None:
    """The task is cancelled at the end of the term and has ended when its scope is left; each term starts it anew."""
    worker, told = FakeWorker(), []

    async def consume() -> None:
        told.append("begin")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            told.append("end")

    worker.tasks.add(consume)
    for number in (1, 2):
        async with worker.term(number):
            await until_async(lambda number=number: told.count("begin") == number)
            (name,) = worker.unfinished()
            assert name.endswith("consume")
        assert told == ["begin", "end"] * number


class Abort(BaseException):
    """An exception whose ``__str__`` raises, as in some libraries."""


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt, Abort, asyncio.CancelledError])
async def test_a_task_that_fails_is_started_again_less_and_less_often(
    clock: ManualClock, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    """Restart with back-off, logged each time, in virtual time."""
    worker, began = FakeWorker(clock=clock), []

    async def fails() -> None:
        began.append(clock.monotonic())
        raise error("no broker")

    worker.tasks.add(fails)
    async with worker.term():
        await clock.advance(300)
        waits = [after - before for before, after in pairwise(began)]
        assert waits[:8] == [1, 2, 4, 8, 16, 32, MAX_RESTART_DELAY_S, MAX_RESTART_DELAY_S]
    told = logged(caplog, "task_failed")
    assert len(told) == len(began)
    assert told[0].exc_info is not None
    await clock.advance(300)
    assert len(began) == len(told), "not after the term"


async def test_a_task_that_ran_for_long_is_started_again_soon(clock: ManualClock) -> None:
    """The back-off is for code that fails at once; a connection that broke after a day is restored within a second."""
    worker, began = FakeWorker(clock=clock), []

    async def breaks() -> None:
        began.append(clock.monotonic())
        await clock.sleep(MAX_RESTART_DELAY_S * 2 if len(began) == 5 else 0)
        raise RuntimeError("connection lost")

    worker.tasks.add(breaks)
    async with worker.term():
        await clock.advance(150)
    assert began[:7] == [0, 1, 3, 7, 15, 15 + 2 * MAX_RESTART_DELAY_S + 1, 15 + 2 * MAX_RESTART_DELAY_S + 3]


async def test_a_task_that_returns_is_done_for_this_term(clock: ManualClock) -> None:
    worker, terms = FakeWorker(clock=clock), []

    async def once_a_term() -> None:
        terms.append(1)

    worker.tasks.add(once_a_term)
    for number in (1, 2):
        async with worker.term(number):
            await clock.advance(300)
        assert len(terms) == number


async def test_a_task_that_waits_to_be_started_again_ends_with_the_term(clock: ManualClock) -> None:
    worker, began = FakeWorker(clock=clock), []

    async def fails() -> None:
        began.append(1)
        raise RuntimeError("no broker")

    worker.tasks.add(fails)
    async with worker.term():
        await clock.advance(0.5)
    await clock.advance(60)
    assert began == [1]
    assert worker.unfinished() == []


async def test_a_task_that_will_not_end_holds_the_scope() -> None:
    """P5: its code is job code, and the log names it."""
    worker, may_end, began = FakeWorker(), asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        began.set()
        while not may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await may_end.wait()

    worker.tasks.add(stubborn)
    async with worker.term() as term:
        await began.wait()
        term.lose()
        await turns()
        assert not term.over
        assert [name.rpartition(".")[2] for name in worker.unfinished()] == ["stubborn"]
        may_end.set()


async def test_tasks_are_cancelled_before_the_jobs_are_waited_for(job: Job) -> None:
    """A resignation cancels the tasks at once; jobs get their grace."""
    worker, ended = FakeWorker(), asyncio.Event()

    async def consume() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    worker.once(job.thread)
    worker.tasks.add(consume)
    async with worker.term() as term:
        await job.runs_now()
        term.end()
        await until_async(ended.is_set)
        assert not term.over
        job.may_end.set()


async def test_a_plain_function_is_no_task() -> None:
    """Nothing could end it with its term."""
    with pytest.raises(JobDefinitionError, match="coroutine function"):
        TaskRegistry().add(lambda: None)  # type: ignore[arg-type, return-value]
