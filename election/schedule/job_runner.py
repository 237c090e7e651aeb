"""Calls job functions, on the loop or in a thread, each attempt in its own task and context.

Promises: an attempt has ended only when nothing that it started in the loop's executors runs any more (P5), and it has
succeeded only if its code ran to its end. The cause of a cancellation decides the outcome, not the job's reaction.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from election.core.callables import discard_awaitable, resolve_result
from election.core.clock import Clock, first, is_cancelled
from election.core.events import named
from election.core.logs import log
from election.core.threads import submit

from .jobs import Job
from .model import RunLog, Tick
from .run import Run, set_current_run
from .run_log import LineCollector, collect_lines
from .run_threads import RunThreads, count_threads_in

Around = Callable[[Run], AbstractContextManager[Any]]
"""Returns the context manager that is entered around each attempt."""

MAX_THREADS = 32
"""Default number of plain functions that run at the same time."""


class CancelledBy(StrEnum):
    """Why an attempt was cancelled by the scheduler."""

    TERM = "the drain limit had passed, or the term was lost"
    TIMEOUT = "timeout"
    LATER_TICK = "a later tick of the job has taken its place"
    REQUEST = "by request"


@dataclass(eq=False, slots=True)
class Attempt:
    """One call of a job's function.

    Attributes:
        job: The job.
        run: Value of ``current_run()`` in its code.
        raised: Exception that ended it; None if it ran to its end.
        value: Result of the job.
        cancelled_by: Cause of its cancellation; None if it was not cancelled.
        threads: Threads of the loop's executors that its code started.
        lines: Collects the lines that its code logs.
        has_entered_thread: Whether it is in a thread now.
        preparation: Task that this thread waits for before it calls the function; None if there is none, or no more.
        is_preparation_held: Whether that task cannot be cancelled now.
        is_last_step: Whether nothing may follow that thread.
        is_overdue: Whether its timeout has passed during that thread.
        has_thread: Whether a thread is reserved that it has not used yet.
        task: Task of the attempt.
        started_at: When its code began, on the wall clock; None if that has not begun.
        began: The same, in seconds of the monotonic clock.
    """

    job: Job
    run: Run
    raised: BaseException | None = None
    value: Any = None
    cancelled_by: CancelledBy | None = None
    threads: RunThreads = field(default_factory=RunThreads)
    lines: LineCollector = field(default_factory=LineCollector)
    has_entered_thread: bool = False
    preparation: asyncio.Task[Any] | None = None
    is_preparation_held: Callable[[], bool] = bool
    is_last_step: bool = False
    is_overdue: bool = False
    has_thread: bool = False
    task: asyncio.Task[None] | None = None
    started_at: datetime | None = None
    began: float = 0.0

    @property
    def tick(self) -> Tick:
        """Tick that it runs."""
        return Tick(self.run.job_id, self.run.due, self.run.request)

    def log(self) -> RunLog | None:
        """Log for the ledger; None if the code logged nothing and did not fail."""
        return self.lines.close(self.run.attempt, self.raised)

    @property
    def is_interrupted(self) -> bool:
        """Whether it was cut off: not by its timeout, which is a failure."""
        return self.cancelled_by not in {None, CancelledBy.TIMEOUT}

    @property
    def is_in_thread(self) -> bool:
        """Whether its own code runs in a thread now, which cannot be stopped."""
        return self.has_entered_thread and (self.preparation is None or self.is_preparation_held())

    def cancel(self, reason: CancelledBy) -> None:
        """Cancel its coroutine, or its preparation; a thread runs on, and only the code after it is not begun."""
        if self.task is None or self.task.done():
            return
        if self.is_in_thread:
            self.is_last_step = True
        else:
            self.cancelled_by = self.cancelled_by or reason
            (self.preparation or self.task).cancel()  # a thread ends with its preparation


_in_its_thread: ContextVar[Attempt | None] = ContextVar("election_attempt", default=None)
"""The attempt, in the context of its thread."""


def begin_preparation(is_held: Callable[[], bool]) -> None:
    """From now on, the attempt whose thread waits for the current task is cancelled with this task.

    Args:
        is_held: Whether the task cannot be cancelled now.
    """
    if (attempt := _in_its_thread.get()) is not None:
        attempt.preparation, attempt.is_preparation_held = asyncio.current_task(), is_held
        if attempt.is_last_step or attempt.is_overdue:  # since before the task began
            attempt.cancel(CancelledBy.TERM if attempt.is_last_step else CancelledBy.TIMEOUT)


def end_preparation() -> None:
    """The function is called next. Raises ``CancelledError`` if it must not be: the task has swallowed that."""
    if (attempt := _in_its_thread.get()) is not None:
        if attempt.cancelled_by is not None:
            raise asyncio.CancelledError
        attempt.preparation = None


class JobRunner:
    """Calls of one term.

    Args:
        max_threads: Plain functions that run at the same time; others wait.
        clock: Time of timeouts.
        around: Entered around each attempt, the first as the outermost.
    """

    def __init__(self, max_threads: int, clock: Clock, around: Sequence[Around] = ()) -> None:
        self._threads = ThreadPoolExecutor(max_threads, thread_name_prefix="election-job")
        self._free_threads = asyncio.Semaphore(max_threads)
        self._clock = clock
        self._around = around
        self._context = contextvars.copy_context()  # of the term: no attempt sees the variables of another
        self._attempts: set[Attempt] = set()
        self._in_threads: dict[asyncio.Future[Any], str] = {}

    def in_threads(self) -> Iterable[str]:
        """Ids of the jobs whose code runs in threads now."""
        return [*self._in_threads.values(), *(each.job.id for each in self._attempts if each.threads.running())]

    def futures(self) -> Iterable[asyncio.Future[Any]]:
        """Futures of all code that runs: of attempts, and of the threads that attempts have left behind."""
        tasks = [each.task for each in self._attempts if each.task is not None and not each.task.done()]
        return [*self._in_threads, *tasks]

    def close(self) -> None:
        """Accept no more calls."""
        self._threads.shutdown(wait=False)

    def cancel(self) -> None:
        """Cancel every attempt whose code runs on the loop."""
        for attempt in list(self._attempts):
            attempt.cancel(CancelledBy.TERM)

    def attempts_of(self, job_id: str) -> list[Attempt]:
        """Attempts of a job that run now."""
        return [each for each in self._attempts if each.job.id == job_id]

    def take_thread(self) -> bool:
        """Reserve a thread for one call, if one is free; returns whether it was."""
        if self._free_threads.locked():  # or somebody waits for one
            return False
        with suppress(StopIteration):
            self._free_threads.acquire().send(None)  # returns without waiting
        return True

    async def reserve_thread(self) -> None:
        """Reserve a thread for one call, as soon as one is free."""
        await self._free_threads.acquire()

    def begin(self, job: Job, run: Run, may_begin: Callable[[], bool]) -> Attempt:
        """Call the function in a task of its own, for a plain one in the thread that was reserved.

        Args:
            job: The job.
            run: Value of ``current_run()`` in its code.
            may_begin: Called just before the function; if it returns False, the function is not called.
        """
        attempt = Attempt(job, run, has_thread=not job.is_coroutine)
        context = self._context.copy()  # entered: a task factory of the application may take no context
        attempt.task = context.run(
            asyncio.get_running_loop().create_task, self._guarded(attempt, may_begin), name=f"job {job.id}"
        )
        self._attempts.add(attempt)
        return attempt

    async def ended(self, attempt: Attempt) -> None:
        """Return when the attempt has ended.

        Raises no exception of the job; ``CancelledError`` only if the event loop goes down.
        """
        try:
            await self._ended(attempt)
        finally:
            if attempt.has_thread:
                self._free_threads.release()
            if not attempt.threads.running():  # unless the event loop goes down
                self._attempts.discard(attempt)

    async def _ended(self, attempt: Attempt) -> None:
        assert attempt.task is not None
        timeout = attempt.job.timeout
        if timeout is not None:
            await first(asyncio.wait([attempt.task]), self._clock.sleep(timeout))
            if not attempt.task.done():
                self._time_out(attempt, timeout)
        try:
            await attempt.task
        except asyncio.CancelledError as error:
            if is_cancelled():  # the event loop goes down
                raise
            attempt.raised = _verdict(attempt) or error  # cancelled before it began
        if attempt.threads.running():
            await attempt.threads.ended()

    def _time_out(self, attempt: Attempt, timeout: float) -> None:
        if attempt.is_in_thread:
            attempt.is_overdue = True
            log.error(
                "job %s runs for longer than its timeout of %g s; a thread cannot be stopped",
                attempt.job.id, timeout, extra=named("thread_timed_out"),
            )  # fmt: skip
        else:
            attempt.cancel(CancelledBy.TIMEOUT)

    async def _guarded(self, attempt: Attempt, may_begin: Callable[[], bool]) -> None:
        """Run the attempt, and keep its exception: in a task, some exceptions would end the event loop."""
        if not may_begin():
            return
        attempt.started_at, attempt.began = self._clock.now(), self._clock.monotonic()
        set_current_run(attempt.run)
        count_threads_in(attempt.threads)
        if attempt.job.keep_log:
            collect_lines(attempt.lines)
        try:
            with ExitStack() as scope:
                for around in self._around:
                    scope.enter_context(around(attempt.run))
                await self._judged(attempt)
        except BaseException as error:
            attempt.raised = error
        verdict = _verdict(attempt)  # also if a context manager has swallowed or replaced it
        if verdict is not None and (attempt.raised is None or attempt.raised.args != verdict.args):
            attempt.raised = verdict

    async def _judged(self, attempt: Attempt) -> None:
        """Call the function; raise the exception of its cancellation if there was one, else its own."""
        try:
            attempt.value = await self._called(attempt)
        except BaseException as error:
            if (verdict := _verdict(attempt)) is not None:
                raise verdict from error
            raise
        if (verdict := _verdict(attempt)) is not None:
            raise verdict

    async def _called(self, attempt: Attempt) -> Any:
        job = attempt.job
        if job.is_coroutine:
            value = await job.func(*job.args, **job.kwargs)
        else:
            value = await self._in_thread(attempt)
            if (attempt.is_last_step or attempt.is_overdue) and inspect.isawaitable(value):
                attempt.cancelled_by = CancelledBy.TERM if attempt.is_last_step else CancelledBy.TIMEOUT
                discard_awaitable(value)
                return None
        value = await resolve_result(value)
        _refuse_generator(value)
        return value

    async def _in_thread(self, attempt: Attempt) -> Any:
        context = contextvars.copy_context()
        context.run(_in_its_thread.set, attempt)
        thread = asyncio.wrap_future(submit(self._threads, context.run, _call, attempt.job))
        attempt.has_thread = False
        self._in_threads[thread] = attempt.job.id
        thread.add_done_callback(self._thread_ended)
        attempt.has_entered_thread = True
        try:
            outcome: tuple[Any, BaseException | None] = await asyncio.shield(thread)
        finally:
            attempt.has_entered_thread, attempt.preparation = False, None
        value, error = outcome
        if isinstance(error, StopIteration):  # which would end this coroutine
            raise RuntimeError("the job raised StopIteration") from error
        if error is not None:
            raise error
        return value

    def _thread_ended(self, thread: asyncio.Future[Any]) -> None:
        del self._in_threads[thread]
        self._free_threads.release()
        if not thread.cancelled():
            thread.exception()


def _call(job: Job) -> tuple[Any, BaseException | None]:
    """Call a plain function; return its exception as a value, because a future cannot hold every exception."""
    try:
        return job.func(*job.args, **job.kwargs), None
    except BaseException as error:
        return None, error


def _verdict(attempt: Attempt) -> BaseException | None:
    """Exception that ends an attempt that the scheduler cancelled; None for any other attempt."""
    match attempt.cancelled_by:
        case CancelledBy.TERM | CancelledBy.LATER_TICK | CancelledBy.REQUEST as reason:
            return asyncio.CancelledError(str(reason))
        case CancelledBy.TIMEOUT:
            return TimeoutError(f"timed out: it ran for longer than its timeout of {attempt.job.timeout:g} s")
    return None


def _refuse_generator(value: Any) -> None:
    """Raise ``TypeError`` for the result of a function none of whose code has run yet."""
    inner = getattr(value, "gen", value)  # contextlib's context managers hold their generator there
    if inspect.isgenerator(inner) or inspect.isasyncgen(inner):
        raise TypeError(
            f"the job returned {value!r}, whose code is never run: a job is a function that does its work when it is"
            " called, or a coroutine function"
        )
