"""The work of a term, as a scope: entering it starts the scheduler, leaving it is the drain.

Promises P5: nothing of a job starts before the scope is entered, and the scope is not left while job code runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from election.core.clock import Clock, first
from election.core.errors import UnfinishedJobsError
from election.core.term import Term

from .executor import TermExecutor
from .jobs import JobRegistry
from .tasks import RunningTasks, TaskRegistry

log = logging.getLogger("election")

LAST_MOMENT = 0.5
"""Seconds that cancelled coroutines get to end when the event loop itself is going down."""


class Work:
    """Opens the work of each term of one worker.

    drain_timeout: seconds that runs may take to end by themselves after a resignation.
    """

    def __init__(
        self,
        jobs: JobRegistry,
        tasks: TaskRegistry,
        *,
        clock: Clock,
        drain_timeout: float,
        scheduler_options: Mapping[str, Any],
    ) -> None:
        self._jobs = jobs
        self._tasks = tasks
        self._clock = clock
        self._drain_timeout = drain_timeout
        self._options = scheduler_options
        self._scheduler: AsyncIOScheduler | None = None
        self._executor: TermExecutor | None = None
        self._running_tasks: RunningTasks | None = None

    @asynccontextmanager
    async def lead(self, term: Term, lost: asyncio.Event) -> AsyncIterator[None]:
        """Work for ``term`` until the scope is left; ``lost`` ends what runs without grace."""
        executor = TermExecutor({job.id: job for job in self._jobs}, term, self._clock)
        scheduler = AsyncIOScheduler(
            **self._options, executors={"default": executor}, jobstores={"default": MemoryJobStore()}
        )
        for job in self._jobs:
            scheduler.add_job(
                job.func,
                job.trigger,
                args=job.args,
                kwargs=job.kwargs,
                id=job.id,
                name=job.name,
                misfire_grace_time=job.misfire_grace_time,
                coalesce=job.coalesce,
                max_instances=job.max_instances,
            )
        scheduler.start()
        tasks = self._tasks.start(self._clock)
        self._scheduler, self._executor, self._running_tasks = scheduler, executor, tasks
        try:
            yield
        finally:
            scheduler.pause()
            try:
                await self._drain(executor, tasks, lost)
            finally:
                scheduler.shutdown(wait=False)
                self._scheduler = None
                await asyncio.sleep(0)  # APScheduler puts its shutdown off by one turn of the loop

    def unfinished(self) -> list[str]:
        """The ids of the jobs, and the names of the tasks, whose code runs now."""
        jobs = self._executor.unfinished() if self._executor else []
        return jobs + (self._running_tasks.unfinished() if self._running_tasks else [])

    def next_run_times(self) -> dict[str, Any]:
        """When each job runs next, by id, as the scheduler of the current term has it; empty without a term."""
        return {job.id: job.next_run_time for job in self._scheduler.get_jobs()} if self._scheduler else {}

    async def _drain(self, executor: TermExecutor, tasks: RunningTasks, lost: asyncio.Event) -> None:
        tasks.cancel()
        try:
            if not lost.is_set():
                await first(executor.wait(), self._clock.sleep(self._drain_timeout), lost.wait())
                if executor.unfinished() and not lost.is_set():
                    log.warning(
                        "the drain limit of %g s has passed and these jobs still run: %s;"
                        " coroutines are cancelled now, threads cannot be, and the seat stays held until they end",
                        self._drain_timeout, ", ".join(executor.unfinished()),
                    )  # fmt: skip
            executor.cancel()
            await executor.wait()
            await tasks.wait()
        except asyncio.CancelledError:  # the loop is going down
            executor.cancel()
            await first(executor.wait(), self._clock.sleep(LAST_MOMENT))
            if left := executor.unfinished() + tasks.unfinished():
                raise UnfinishedJobsError(f"still running: {', '.join(left)}") from None
            raise
