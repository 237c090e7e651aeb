"""Calling a job's function, on the loop or in a thread, with ``current_run()`` set in both."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from election.core.clock import Clock, first, time_limit
from election.core.errors import ElectionError
from election.core.events import named

from .jobs import Job
from .run import Run, set_current_run

log = logging.getLogger("election")

MAX_ERROR_LENGTH = 2000
"""Characters of an error that are kept."""


class TakenBackError(ElectionError):
    """The term was over before a thread was free for the call; nothing of the job has run."""


class JobRunner:
    """The calls of one term.

    threads: where plain functions run. clock: by which a job's timeout is measured.
    """

    def __init__(self, threads: ThreadPoolExecutor, clock: Clock) -> None:
        self._threads = threads
        self._clock = clock
        self._in_threads: dict[asyncio.Future[Any], str] = {}
        self._handed_over: dict[asyncio.Future[Any], Future[Any]] = {}

    def in_threads(self) -> Iterable[str]:
        """The ids of the jobs that run in threads now."""
        return self._in_threads.values()

    def futures(self) -> Iterable[asyncio.Future[Any]]:
        """Futures of the threads that run a job."""
        return self._in_threads.keys()

    def close(self) -> None:
        """Take no more calls."""
        self._threads.shutdown(wait=False)

    async def on_loop(self, job: Job, run: Run) -> None:
        """Await a coroutine function. Raises what it raises, and ``TimeoutError`` after the job's timeout."""
        set_current_run(run)
        if job.timeout is None:
            await job.func(*job.args, **job.kwargs)
            return
        try:
            async with time_limit(self._clock, job.timeout) as limit:
                await job.func(*job.args, **job.kwargs)
        except TimeoutError as error:
            if limit.expired():
                raise TimeoutError(f"it ran for longer than its timeout of {job.timeout:g} s") from error
            raise

    async def in_thread(self, job: Job, run: Run) -> None:
        """Call a plain function in a thread. Raises what it raises; that its timeout has passed is only told.

        Raises ``TakenBackError`` if the call was taken back before it began.
        """
        context = contextvars.copy_context()
        context.run(set_current_run, run)
        call = functools.partial(context.run, _call, job)
        handed_over = self._threads.submit(call)
        thread = asyncio.wrap_future(handed_over)
        self._in_threads[thread], self._handed_over[thread] = job.id, handed_over
        thread.add_done_callback(self._ended)
        if job.timeout is not None:
            await first(asyncio.wait([thread]), self._clock.sleep(job.timeout))
            if not thread.done():
                log.error(
                    "job %s runs for longer than its timeout of %g s; a thread cannot be stopped",
                    job.id,
                    job.timeout,
                    extra=named("thread_timed_out"),
                )
        try:
            await asyncio.shield(thread)
        except asyncio.CancelledError:
            if handed_over.cancelled():
                raise TakenBackError from None
            raise

    def cancel_waiting(self) -> None:
        """Take back the calls for which no thread was free yet; one that has begun cannot be stopped."""
        for handed_over in self._handed_over.values():
            handed_over.cancel()

    def _ended(self, thread: asyncio.Future[Any]) -> None:
        del self._in_threads[thread], self._handed_over[thread]
        if not thread.cancelled():
            thread.exception()  # told by the run, if that still waits for it


def _call(job: Job) -> None:
    try:
        job.func(*job.args, **job.kwargs)
    except StopIteration as error:  # which no future can hold
        raise RuntimeError("the job raised StopIteration") from error


def what_went_wrong(error: BaseException) -> str:
    """The error in words that any ledger can hold, whatever the job's own classes make of themselves."""
    try:
        text = str(error)
    except Exception:
        text = "it cannot say what it is"
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return told[:MAX_ERROR_LENGTH].encode("utf-8", "backslashreplace").decode()
