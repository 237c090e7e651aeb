"""Runs the jobs of one term, and knows at any time what still runs (P5).

APScheduler's own executors do not: its ``shutdown(wait=True)`` neither waits for coroutines nor for threads.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.executors.base import BaseExecutor

from election.core.clock import Clock
from election.core.term import Term

from .jobs import Job
from .run import Run, set_current_run

log = logging.getLogger("election")


class TermExecutor(BaseExecutor):  # type: ignore[misc]  # APScheduler 3 has no types
    """Calls coroutine functions on the loop and plain functions in threads of the term's own.

    jobs: the registered jobs by id.
    """

    def __init__(self, jobs: Mapping[str, Job], term: Term, clock: Clock) -> None:
        super().__init__()
        self._jobs = jobs
        self._term = term
        self._clock = clock
        self._threads = ThreadPoolExecutor(thread_name_prefix="election-job")
        self._running: dict[asyncio.Future[Any], str] = {}

    def unfinished(self) -> list[str]:
        """The ids of the jobs whose code still runs."""
        return sorted(set(self._running.values()))

    def cancel(self) -> None:
        """Cancel what can be cancelled: coroutines. A thread cannot be stopped, and goes on counting as running."""
        for future in self._running:
            if isinstance(future, asyncio.Task):
                future.cancel()

    async def wait(self) -> None:
        """Return when no job code runs."""
        while self._running:
            await asyncio.wait(list(self._running))
            await asyncio.sleep(0)  # let the callbacks take out what has ended

    def shutdown(self, wait: bool = True) -> None:
        """Called by APScheduler when all is done."""
        self._threads.shutdown(wait=False)

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        task = asyncio.get_running_loop().create_task(
            self._run_all(self._jobs[job.id], run_times), name=f"election job {job.id}"
        )
        self._running[task] = job.id
        task.add_done_callback(functools.partial(self._done, job.id))

    def _done(self, job_id: str, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._run_job_success(job_id, [])

    async def _run_all(self, job: Job, run_times: list[datetime]) -> None:
        for due in run_times:
            late = self._clock.now() - due.astimezone(UTC)
            if job.misfire_grace_time is not None and late > timedelta(seconds=job.misfire_grace_time):
                log.warning("job %s: the tick due %s was missed by %s", job.id, due, late)
                continue
            await self._run(job, Run(job.id, due.astimezone(UTC), self._term.number))

    async def _run(self, job: Job, run: Run) -> None:
        try:
            if job.is_coroutine:
                set_current_run(run)
                await job.func(*job.args, **job.kwargs)
            else:
                await self._in_thread(job, run)
        except (Exception, SystemExit):  # a job that exits has failed; the worker has not
            log.exception("job %s failed (due %s)", job.id, run.due)

    async def _in_thread(self, job: Job, run: Run) -> None:
        context = contextvars.copy_context()
        context.run(set_current_run, run)
        call = functools.partial(context.run, job.func, *job.args, **job.kwargs)
        thread = asyncio.get_running_loop().run_in_executor(self._threads, call)
        self._running[thread] = job.id
        thread.add_done_callback(self._thread_ended)
        await asyncio.shield(thread)

    def _thread_ended(self, thread: asyncio.Future[Any]) -> None:
        del self._running[thread]
        if not thread.cancelled():
            thread.exception()  # told by the run, if that still waits for it
