"""Ends of a run: for each kind of function, way to end and moment the outcome, events, retries and ledger."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextvars import ContextVar
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from election import JobDefinitionError, current_run
from election.core.events import Event, RunFailed, RunGivenUp, RunInterrupted, RunStarted, RunSucceeded, TickSkipped
from election.schedule.attempts import MAX_RETRY_DELAY_S
from election.schedule.commands import FinishRun, Retry
from election.schedule.jobs import JobRegistry
from election.schedule.model import OpenRun, Outcome, SkipReason, State, Tick
from election.schedule.plan import make_plan, rerun_delay_s
from election.schedule.verify import verify
from tests.schedule.making import NOW, at, make_job, state_of
from tests.schedule.term_bench import MINUTES, TermBench
from tests.support.waiting import until_async

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("error")]

Work = Callable[[], Any]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# --- kinds of functions -----------------------------------------------------------------------------------------------


def _coroutine(work: Work) -> Callable[..., Any]:
    async def job() -> Any:
        await asyncio.sleep(0)
        return work()

    return job


class _Awaitable:
    def __init__(self, work: Work) -> None:
        self._work = work

    def __await__(self) -> Generator[Any, None, Any]:
        yield from asyncio.sleep(0).__await__()
        return self._work()


class _AsyncCallable:
    def __init__(self, work: Work) -> None:
        self._work = work

    async def __call__(self) -> Any:
        return self._work()


def _decorated(work: Work) -> Callable[..., Any]:
    inner = _coroutine(work)

    @functools.wraps(inner)
    def wrapper() -> Any:
        return inner()

    return wrapper


def _twice(work: Work) -> Callable[..., Any]:
    async def job() -> Any:
        return _coroutine(work)()

    return job


KINDS: dict[str, Callable[[Work], Callable[..., Any]]] = {
    "coroutine function": _coroutine,
    "partial of one": lambda work: functools.partial(_coroutine(work)),
    "callable object": _AsyncCallable,
    "lambda that returns a coroutine": lambda work: lambda: _coroutine(work)(),  # noqa: PLW0108  which is the point
    "decorated coroutine function": _decorated,
    "coroutine that returns a coroutine": _twice,
    "function that returns an awaitable": lambda work: lambda: _Awaitable(work),
    "plain function": lambda work: work,
}


class Abort(BaseException):
    """Exceptions that are no ``Exception``, like pytest's outcomes and those of some libraries."""


class SaysNothingError(Exception):
    def __str__(self) -> str:
        raise Abort


def raising(error: BaseException) -> Work:
    def work() -> Any:
        raise error

    return work


ENDS: dict[str, tuple[Work, str | None]] = {
    "returns": (lambda: 7, None),
    "Exception": (raising(ValueError("x")), "ValueError: x"),
    "SystemExit": (raising(SystemExit(1)), "SystemExit: 1"),
    "KeyboardInterrupt": (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
    "BaseException": (raising(Abort("x")), "Abort: x"),
    "a group": (raising(BaseExceptionGroup("x", [Abort()])), "BaseExceptionGroup: x (1 sub-exception)"),
    "GeneratorExit": (raising(GeneratorExit()), "GeneratorExit"),
    "CancelledError": (raising(asyncio.CancelledError("own")), "CancelledError: own"),
    "an error that says nothing": (raising(SaysNothingError()), "SaysNothingError: its __str__ failed"),
    "surrogates": (raising(ValueError("\udcff")), "ValueError: \\udcff"),
}


def _each_with_each() -> list[object]:
    """Each kind with each end. In the ordinary tier: one kind with each end, and each kind with the two common ends."""

    def is_ordinary(kind: str, end: str) -> bool:
        return kind == "coroutine function" or end in {"returns", "Exception"}

    pairs = itertools.product(KINDS, ENDS)
    return [pytest.param(*pair, marks=() if is_ordinary(*pair) else pytest.mark.extended) for pair in pairs]


@pytest.mark.parametrize(("kind", "end"), _each_with_each())
async def test_its_code_ran_to_its_end_or_it_failed(bench: TermBench, kind: str, end: str) -> None:
    work, error = ENDS[end]
    calls: list[int] = []

    def counted() -> Any:
        calls.append(current_run().attempt)
        return work()

    bench.registry.add(KINDS[kind](counted), "date", id="job", retries=1, retry_backoff=2.0)
    async with bench.term() as term:
        await bench.until(lambda: bench.runs(outcome="succeeded" if error is None else "failed"))
        await bench.until(lambda: not term.unfinished())
    [run] = await bench.runs()
    ended = [event for event in bench.events if isinstance(event, RunSucceeded | RunFailed | RunInterrupted)]
    if error is None:
        assert (calls, run.outcome, run.attempts) == ([1], Outcome.SUCCEEDED, [])
        assert [(type(event), event.value) for event in ended if isinstance(event, RunSucceeded)] == [(RunSucceeded, 7)]
        return
    assert (calls, run.outcome, run.error, run.attempt) == ([1, 2], Outcome.FAILED, error, 2)
    assert [each["error"] for each in run.attempts] == [error]
    assert [(type(event), event.again_in_s) for event in ended if isinstance(event, RunFailed)] == [
        (RunFailed, 2.0),
        (RunFailed, None),
    ]
    assert all(isinstance(event, RunFailed) and event.exception is not None for event in ended)
    await bench.agrees()


@pytest.mark.parametrize("kind", ["coroutine function", "plain function"])
async def test_one_that_raises_takes_no_other_of_its_batch_along(bench: TermBench, kind: str) -> None:
    due: list[int] = []

    def work() -> None:
        due.append(1)
        raise Abort

    bench.registry.add(
        KINDS[kind](work), "interval", seconds=1, start_date=NOW, id="job", coalesce=False, misfire_grace_time=None
    )
    async with bench.term():
        bench.clock.block(3)
        await bench.until(lambda: len(due) >= 4)
    assert {run.outcome for run in await bench.runs()} == {Outcome.FAILED}
    await bench.agrees()


# --- what cannot be run -----------------------------------------------------------------------------------------------


def generator() -> Iterator[None]:
    yield


async def async_generator() -> AsyncIterator[None]:
    yield


@contextlib.contextmanager
def manager() -> Iterator[None]:
    yield


@pytest.mark.parametrize("function", [generator, async_generator, functools.partial(generator)])
def test_a_generator_function_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(JobDefinitionError, match="generator function, none of whose code would run; give a function"):
        JobRegistry({"timezone": "UTC"}).add(function, "interval", seconds=1, id="job")


def returns_generator() -> Iterator[None]:
    return generator()


def returns_async_generator() -> AsyncIterator[None]:
    return async_generator()


@pytest.mark.parametrize("function", [returns_generator, returns_async_generator, manager])
async def test_a_generator_that_is_returned_has_not_run(bench: TermBench, function: Callable[..., Any]) -> None:
    bench.registry.add(function, "date", id="job")
    async with bench.term():
        await bench.until(lambda: bench.runs(outcome="failed"))
    [run] = await bench.runs()
    assert run.error is not None and "whose code is never run: a job is a function that does its work" in run.error


# --- who cancelled it -------------------------------------------------------------------------------------------------


async def lets_it_through() -> None:
    await asyncio.get_running_loop().create_future()


async def swallows() -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.get_running_loop().create_future()


async def raises_another() -> None:
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        raise RuntimeError("tidied up") from None


CANCELLED = [lets_it_through, swallows, raises_another]


@pytest.mark.parametrize("rerun", [False, True])
@pytest.mark.parametrize("function", CANCELLED)
async def test_at_the_drain_limit_it_is_interrupted(
    bench: TermBench, function: Callable[..., Any], rerun: bool
) -> None:
    bench.options["drain_timeout"] = 1.0
    begun: list[tuple[int, int]] = []

    async def job() -> None:
        begun.append((current_run().term, current_run().attempt))
        if current_run().term == 1:
            await function()

    bench.registry.add(job, "date", id="job", rerun_interrupted=rerun, retries=3)

    async def ends() -> None:
        async with bench.term(1):
            await bench.wait(lambda: begun)

    await bench.until(asyncio.ensure_future(ends()).done)
    interrupted = [event for event in bench.events if isinstance(event, RunInterrupted)]
    assert [event.error for event in interrupted] == ["cancelled: the drain limit had passed, or the term was lost"]
    async with bench.term(2) as term:
        await bench.until(lambda: bench.runs(outcome="succeeded" if rerun else "interrupted"))
        await bench.until(lambda: not term.unfinished())
    assert begun == ([(1, 1), (2, 2)] if rerun else [(1, 1)])
    await bench.agrees()


@pytest.mark.parametrize("function", CANCELLED)
async def test_at_its_timeout_it_has_failed(bench: TermBench, function: Callable[..., Any]) -> None:
    bench.registry.add(function, "date", id="job", timeout=5, retries=1, retry_backoff=1.0)
    async with bench.term():
        await bench.until(lambda: bench.runs(outcome="failed"))
    [run] = await bench.runs()
    error = "TimeoutError: timed out: it ran for longer than its timeout of 5 s"
    assert (run.attempt, run.error, [each["error"] for each in run.attempts]) == (2, error, [error])


@pytest.mark.parametrize("function", CANCELLED)
async def test_a_context_manager_that_swallows_changes_nothing(bench: TermBench, function: Callable[..., Any]) -> None:
    bench.options["around"] = [lambda _: contextlib.suppress(BaseException)]
    bench.registry.add(function, "date", id="job", timeout=5)
    async with bench.term():
        await bench.until(lambda: bench.runs(outcome="failed"))
    [run] = await bench.runs()
    assert run.error is not None and run.error.startswith("TimeoutError: timed out")


async def test_a_task_that_something_else_cancels_has_failed(bench: TermBench) -> None:
    async def job() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    bench.registry.add(job, "date", id="job")
    async with bench.term():
        await bench.until(lambda: bench.runs(outcome="failed"))
    [run] = await bench.runs()
    assert run.error == "CancelledError"


# --- threads ----------------------------------------------------------------------------------------------------------


async def test_waiting_for_a_thread_counts(bench: TermBench) -> None:
    """Grace, lateness and timeout count from the begin of the code; a tick that waited too long is skipped."""
    bench.options["max_threads"] = 2
    bench.thread_waits = True
    may_end, began = threading.Event(), []

    def slow() -> None:
        may_end.wait(60)

    def strict() -> None:
        began.append(current_run().job_id)

    for number in range(2):
        bench.registry.add(slow, "date", run_date=NOW, id=f"slow {number}")
    bench.registry.add(strict, "date", run_date=at(1), id="strict", misfire_grace_time=1, timeout=2)
    bench.registry.add(strict, "date", run_date=at(1), id="patient", misfire_grace_time=60, timeout=2)
    async with bench.term():
        await bench.until(lambda: sorted(bench.context.queued) == ["patient", "strict"])
        await bench.clock.advance(5)
        assert not any(isinstance(event, RunStarted) and event.job_id == "patient" for event in bench.events)
        bench.thread_waits = False
        may_end.set()
        await bench.until(lambda: bench.runs(job_id="patient", outcome="succeeded"))
        assert bench.context.queued == []
    assert began == ["patient"]
    [skip] = [event for event in bench.events if isinstance(event, TickSkipped)]
    assert (skip.job_id, skip.reason) == ("strict", SkipReason.MISFIRED)
    [start] = [event for event in bench.events if isinstance(event, RunStarted) and event.job_id == "patient"]
    assert start.at - start.due >= timedelta(seconds=5)
    await bench.agrees()


@pytest.mark.parametrize("how", ["to_thread", "run_in_executor"])
async def test_p5_a_thread_of_a_cancelled_coroutine_belongs_to_its_run(bench: TermBench, how: str) -> None:
    """No other attempt, and no end of the term, while it runs."""
    may_end, events = threading.Event(), []

    def block() -> None:
        events.append("begin")
        may_end.wait(60)
        events.append("end")

    async def job() -> None:
        if how == "to_thread":
            await asyncio.to_thread(block)
        else:
            await asyncio.get_running_loop().run_in_executor(None, block)

    bench.registry.add(job, "date", id="job", timeout=1, retries=1, retry_backoff=0)
    bench.thread_waits = True
    async with bench.term() as term:
        await bench.until(lambda: _started(bench))
        await until_async(lambda: events, what="the thread runs; the clock stands still meanwhile")
        await bench.clock.advance(30)
        assert (events, term.unfinished()) == (["begin"], ["job"])
        bench.thread_waits = False
        may_end.set()
        await bench.until(lambda: bench.runs(outcome="succeeded"))
    assert events == ["begin", "end"] * 2
    await bench.agrees()


async def test_a_thread_that_nobody_waits_for_belongs_to_its_run(bench: TermBench) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        may_end.wait(60)

    async def job() -> None:
        asyncio.get_running_loop().run_in_executor(None, block)

    bench.registry.add(job, "date", id="job")
    bench.thread_waits = True
    async with bench.term() as term:
        await bench.until(lambda: _started(bench))
        await until_async(begun.is_set)
        await bench.clock.advance(5)
        assert term.unfinished() == ["job"]
        assert len(await bench.runs(outcome="running")) == 1
        may_end.set()
        bench.thread_waits = False
        await bench.until(lambda: bench.runs(outcome="succeeded"))


def _started(bench: TermBench) -> bool:
    return any(isinstance(event, RunStarted) for event in bench.events)


async def test_the_executors_of_others_are_left_alone(bench: TermBench) -> None:
    loop = asyncio.get_running_loop()
    before = loop.run_in_executor
    async with bench.term():
        assert await asyncio.to_thread(lambda: 7) == 7
    assert loop.run_in_executor == before


# --- a fresh start ----------------------------------------------------------------------------------------------------

_variable: ContextVar[str] = ContextVar("variable", default="fresh")


@pytest.mark.parametrize("kind", ["coroutine function", "plain function", "lambda that returns a coroutine"])
async def test_each_attempt_starts_afresh(bench: TermBench, kind: str) -> None:
    """Each attempt and each tick of a batch has a new task and context; nothing leaks from another job."""
    seen: list[str] = []
    tasks: set[object] = set()

    def work() -> None:
        seen.append(_variable.get())
        with contextlib.suppress(RuntimeError):
            tasks.add(asyncio.current_task())
        _variable.set(f"of {current_run().job_id}")
        raise ValueError

    for number in range(2):
        bench.registry.add(
            KINDS[kind](work), "interval", seconds=1, start_date=NOW, id=f"job {number}", retries=1, retry_backoff=0,
            coalesce=False, misfire_grace_time=None,
        )  # fmt: skip
    async with bench.term():
        bench.clock.block(3)
        await bench.until(lambda: len(seen) >= 16)
    assert set(seen) == {"fresh"}
    assert len(tasks) in {0, len(seen)}


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_max_instances_holds_for_reruns(bench: TermBench) -> None:
    """Five interrupted runs are run again one after the other, and no other tick begins beside them."""
    running, most = 0, 0

    async def job() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await bench.clock.sleep(60 if current_run().term == 1 else 1)
        finally:
            running -= 1

    arguments: dict[str, Any] = {"id": "job", "rerun_interrupted": True, "misfire_grace_time": None}
    bench.registry.add(job, "interval", seconds=1, start_date=NOW, max_instances=5, **arguments)
    bench.options["drain_timeout"] = 0.5

    async def ends() -> None:
        async with bench.term(1):
            await bench.wait(lambda: running == 5)

    await bench.until(asyncio.ensure_future(ends()).done)
    most, running = 0, 0
    bench.registry = bench.new_registry()
    bench.registry.add(job, "interval", seconds=1, start_date=NOW, max_instances=1, **arguments)
    async with bench.term(2):
        await bench.until(lambda: _succeeded(bench, 5))
    assert most == 1
    await bench.agrees()


async def test_verify_reads_how_many_ran_at_once_from_what_a_term_writes(bench: TermBench) -> None:
    """Three runs overlap, as the job allows; with a limit of two, the same history would be a violation."""

    begun: list[datetime] = []

    async def job() -> None:
        begun.append(current_run().due)
        await bench.clock.sleep(2.5)

    bench.registry.add(job, "interval", id="job", seconds=1, start_date=NOW, max_instances=3)

    async def lead() -> None:
        async with bench.term(1):
            await bench.wait(lambda: len(begun) >= 6)

    await bench.until(asyncio.ensure_future(lead()).done)
    await bench.agrees()
    with contextlib.closing(sqlite3.connect(bench.path)) as connection, connection:
        assert connection.execute("UPDATE runs SET max_instances = max_instances - 1").rowcount >= 6
    report = await verify(bench.others, now=bench.clock.now())
    assert [violation.promise for violation in report.violations] == ["P9"]
    assert report.violations[0].text == "3 runs at once in term 1, where max_instances allows 2"


async def _succeeded(bench: TermBench, count: int) -> bool:
    return len(await bench.runs(outcome="succeeded")) >= count


async def test_no_rerun_begins_in_the_drain(bench: TermBench) -> None:
    """Of two interrupted runs the second waits for the first; the next leader runs it."""
    begun: list[tuple[int, int]] = []

    async def job() -> None:
        begun.append((current_run().term, current_run().due.second))
        await bench.clock.sleep(60 if current_run().term == 1 else 1)

    arguments: dict[str, Any] = {"id": "job", "rerun_interrupted": True, "misfire_grace_time": None}
    bench.registry.add(job, "interval", seconds=1, start_date=at(1), max_instances=2, **arguments)
    bench.options["drain_timeout"] = 0.5

    async def ends(term: int, runs: int) -> None:
        async with bench.term(term):
            await bench.wait(lambda: len(begun) == runs)

    await bench.until(asyncio.ensure_future(ends(1, 2)).done)
    bench.registry = bench.new_registry()
    bench.registry.add(job, "interval", seconds=1, start_date=at(1), max_instances=1, **arguments)
    bench.options["drain_timeout"] = 10.0
    await bench.until(asyncio.ensure_future(ends(2, 3)).done)
    assert len(begun) == 3, "what waited began while the leader resigned"
    assert len(await bench.runs(outcome="running")) == 1


INTERRUPTED = "the leader of term 6 was gone before the run ended"


@pytest.mark.parametrize(
    ("interruptions", "paused", "reruns", "given_up", "error"),
    [
        (0, False, 1, 0, INTERRUPTED),
        (2, False, 1, 0, INTERRUPTED),
        (3, False, 0, 1, f"{INTERRUPTED}; it is not run again: interrupted 4 times"),
        (0, True, 0, 0, f"{INTERRUPTED}; it is not run again: paused"),
    ],
)
def test_a_tick_that_ends_its_process_is_given_up(
    interruptions: int, paused: bool, reruns: int, given_up: int, error: str
) -> None:
    job = make_job(seconds=1, rerun_interrupted=True)
    state = state_of(job, paused_at=NOW if paused else None)
    run = OpenRun(Tick("job", NOW), 6, 2, interruptions)
    made = make_plan(
        {"job": job}, State([state], [], [run]), now=at(1), catch_up_limit=10, settled_until={}, running=()
    )
    [entry] = [entry for entry in made.entries if isinstance(entry, FinishRun | Retry)]
    assert isinstance(entry, Retry) is bool(reruns)
    assert (len(made.reruns), len(made.given_up), entry.error) == (reruns, given_up, error)


def test_reruns_back_off() -> None:
    assert [rerun_delay_s(number) for number in (1, 2, 3, 4)] == [0, 5, 10, 20]


async def test_a_run_that_is_given_up_is_told_until_its_job_succeeds(bench: TermBench) -> None:
    """Three leaders die of it; the fourth settles it with an event and a warning, and continues with the next tick."""
    begun: list[int] = []

    async def job() -> None:
        begun.append(current_run().attempt)
        if current_run().due == at(1):
            await asyncio.get_running_loop().create_future()

    bench.registry.add(job, "interval", seconds=60, start_date=at(1), id="job", rerun_interrupted=True, max_reruns=2)
    bench.options |= {"drain_timeout": 0.0, **MINUTES}
    for number in (1, 2, 3):

        async def ends(number: int = number) -> None:
            async with bench.term(number):
                await bench.wait(lambda: len(begun) == number)

        await bench.until(asyncio.ensure_future(ends()).done)
    assert begun == [1, 2, 3]
    async with bench.term(4) as term:
        [event] = [event for event in bench.events if isinstance(event, RunGivenUp)]
        assert (event.job_id, event.due, event.interruptions) == ("job", at(1), 3)
        assert "is not tried again" in str(term._context.warning)
        await bench.until(lambda: len(begun) == 4)
        await bench.until(lambda: term._context.warning is None)
    outcomes = {run.due: run.outcome for run in await bench.runs()}
    assert outcomes[at(1)] is Outcome.INTERRUPTED
    await bench.agrees()


async def test_a_back_off_has_an_end(bench: TermBench) -> None:
    """Doubling a delay a thousand times overflows to infinity."""
    calls: list[float] = []

    async def job() -> None:
        calls.append(bench.clock.monotonic())
        raise ValueError

    bench.options["poll_interval"] = 3600.0
    bench.registry.add(job, "date", id="job", retries=10**6, retry_backoff=MAX_RETRY_DELAY_S / 4)
    async with bench.term():
        await bench.until(lambda: len(calls) > 5, limit=10 * MAX_RETRY_DELAY_S)
    assert [round(after - before) for before, after in pairwise(calls)][:5] == [21600, 43200, 86400, 86400, 86400]


def test_what_only_this_process_has_is_no_plain_value() -> None:
    fields = {"at": NOW, "term": 1, "job_id": "job", "due": NOW, "attempt": 1, "key": "k", "duration_s": 1.0}
    events: list[Event] = [
        RunSucceeded(**fields, value=object()),
        RunFailed(**fields, error="x", again_in_s=None, exception=ValueError()),
    ]
    for event in events:
        assert not {"value", "exception"} & event.fields().keys()
