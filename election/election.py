"""``Election``: what an application holds."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from functools import cached_property
from typing import Any, Self, TypeVar

from apscheduler.triggers.base import BaseTrigger
from fastapi import APIRouter

from .core.clock import Clock, SystemClock, first
from .core.elector import Elector
from .core.errors import ConfigurationError, JobDefinitionError, PoolInUseError
from .engines import Engine, open_engine
from .schedule.jobs import JobRegistry
from .schedule.run import in_a_run
from .schedule.tasks import Task, TaskRegistry
from .schedule.work import Work
from .signals import told_to_stop
from .web import models
from .web.router import build_router

log = logging.getLogger("election")

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Task = TypeVar("_Task", bound=Task)
ExistingLifespan = Callable[[Any], AbstractAsyncContextManager[Any]]

AFTER_THE_DRAIN = 1.0
"""Seconds beyond the drain limit that a shutdown waits for the seat to be given up."""

_NOT_STARTED = (
    "this Election has not been started in this worker: its lifespan did not run"
    " (the lifespans of mounted sub-applications do not)"
)


class Election:
    """A worker's part in a pool: the jobs, and the election that decides where they run.

    pool: the pool's directory; workers with the same directory elect one leader.
    heartbeat: seconds between two signs of life of the leader's event loop.
    safety_poll: seconds after which a follower tries the seat even if nothing has woken it.
    stalled_after: seconds without a heartbeat after which ``/leader`` calls the leader unresponsive.
    drain_timeout: seconds that running jobs get to end when the leader resigns.
    scheduler_options: passed to each term's ``AsyncIOScheduler``: ``timezone``, ``job_defaults``.
    allow_network_fs: accept a pool directory on a filesystem where flock may exclude nobody.

    Constructing one does no I/O. Raises ``ConfigurationError`` for arguments that cannot work.
    """

    def __init__(
        self,
        pool: str | os.PathLike[str],
        *,
        heartbeat: float = 0.5,
        safety_poll: float = 1.0,
        stalled_after: float = 3.0,
        drain_timeout: float = 10.0,
        scheduler_options: Mapping[str, Any] | None = None,
        allow_network_fs: bool = False,
    ) -> None:
        options = dict(scheduler_options or {})
        _check(heartbeat, safety_poll, stalled_after, drain_timeout, options)
        self._stalled_after = stalled_after
        self._drain_timeout = drain_timeout
        self._heartbeat = heartbeat
        self._clock: Clock = SystemClock()
        self._engine: Engine = open_engine(
            pool,
            heartbeat=heartbeat,
            safety_poll=safety_poll,
            allow_network_fs=allow_network_fs,
            clock=self._clock,
        )
        self._jobs = JobRegistry(options)
        self._tasks = TaskRegistry()
        self._work = Work(
            self._jobs,
            self._tasks,
            clock=self._clock,
            drain_timeout=drain_timeout,
            scheduler_options=options,
        )
        self._elector: Elector | None = None
        self._scope: AsyncExitStack | None = None
        self._warned = False

    # --- what runs -----------------------------------------------------------------------------------------------

    def scheduled_job(self, trigger: str | BaseTrigger, **arguments: Any) -> Callable[[_Function], _Function]:
        """Register the decorated function as a job; the arguments are those of APScheduler's ``scheduled_job``.

        ``misfire_grace_time`` is 30 s unless given. Raises ``JobDefinitionError`` for arguments that cannot work.
        """
        self._check_registration()

        def register(func: _Function) -> _Function:
            self._jobs.add(func, trigger, **arguments)
            return func

        return register

    def while_leading(self, task: _Task) -> _Task:
        """Register the decorated coroutine function to run from the start of each term to its end.

        It is cancelled when the term ends, and started again with back-off when it raises. Raises
        ``JobDefinitionError`` for a plain function.
        """
        self._check_registration()
        self._tasks.add(task)
        return task

    # --- taking part ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Find out before a start whether the pool can be used; the start does the same.

        Raises ``ConfigurationError`` with the way out.
        """
        self._engine.check()

    async def __aenter__(self) -> Self:
        """Take part in the pool. Raises ``ConfigurationError`` for what will not mend itself, and nothing else."""
        if self._scope is not None:
            raise PoolInUseError("this Election has been started already; a process takes part in a pool once")
        async with AsyncExitStack() as scope:
            await self._engine.seat.open()
            scope.push_async_callback(self._engine.seat.close)
            self._elector = Elector(self._engine.seat, self._work.lead, clock=self._clock, heartbeat=self._heartbeat)
            scope.enter_context(self._obeying_signals(self._elector))
            running = asyncio.create_task(self._elector.run(), name="election")
            scope.push_async_callback(self._stop, self._elector, running)
            self._scope = scope.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave the pool: resign if leading, and return when the seat is given up or the drain limit has passed."""
        scope, self._scope = self._scope, None
        if scope is not None:
            await scope.aclose()

    @cached_property
    def lifespan(self) -> Lifespan:
        """For ``FastAPI(lifespan=election.lifespan)``; see ``Lifespan`` for an application that has one already."""
        return Lifespan(self)

    @cached_property
    def router(self) -> APIRouter:
        """``GET /leader``, for ``app.include_router(election.router)``."""
        return build_router(self._document)

    # --- how it stands -------------------------------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        """Whether this process leads, worked out anew each time; when in doubt, False (P8)."""
        return self.term is not None

    @property
    def term(self) -> int | None:
        """The number of the term that this process leads; None if it does not."""
        held = self._engine.seat.held() if self._scope is not None else None
        return None if held is None else held.number

    async def resign(self) -> bool:
        """Give the seat up in good order: no new ticks, running jobs end, the next leader takes over.

        Returns whether this worker led. It returns when the seat is given up; inside of a job, which could not end
        while it waits for itself, it returns at once.
        """
        if self._elector is None:
            return False
        if in_a_run():
            return self._elector.request_resignation()
        return await self._elector.resign()

    def unfinished_jobs(self) -> list[str]:
        """The jobs and tasks whose code runs in this process now; after the shutdown, those that would not end.

        Such a worker keeps the seat until its process is gone (P5), so end the process.
        """
        return self._work.unfinished()

    # --- inside --------------------------------------------------------------------------------------------------

    async def _stop(self, elector: Elector, running: asyncio.Task[None]) -> None:
        elector.stop()
        await first(asyncio.wait([running]), self._clock.sleep(self._drain_timeout + AFTER_THE_DRAIN))
        if not running.done():
            log.error(
                "%s would not end; the seat stays held until this process (pid %d) is gone",
                ", ".join(self.unfinished_jobs()) or "the seat's release", os.getpid(),
            )  # fmt: skip

    def _obeying_signals(self, elector: Elector) -> ExitStack:
        loop = asyncio.get_running_loop()
        stopping: set[asyncio.Task[None]] = set()

        def begin() -> None:
            stopping.add(asyncio.ensure_future(elector.stop_with_the_pool()))

        def tell() -> None:
            loop.call_soon_threadsafe(begin)

        stack = ExitStack()
        stack.enter_context(told_to_stop(tell))
        stack.callback(lambda: [task.cancel() for task in stopping])
        return stack

    def _document(self) -> models.LeaderDocument:
        started = self._scope is not None
        if not started and not self._warned:
            self._warned = True
            log.warning("/leader was asked, but %s", _NOT_STARTED)
        seat = self._engine.seat
        seen = seat.observe() if started else None
        leading = models.leader(seen, stalled_after=self._stalled_after) if seen else None
        next_run_times = self._work.next_run_times()
        return models.LeaderDocument(
            pool=self._engine.pool,
            engine=self._engine.name,
            state="led" if leading else "electing",
            leader=leading,
            answered_by=models.AnsweredBy(pid=os.getpid(), role="leader" if self.is_leader else "follower"),
            workers=models.workers(seat.workers(), leading) if started else [],
            last_takeover=models.last_takeover(seen.record if seen else None),
            jobs=[
                models.JobEntry(
                    id=job.id,
                    trigger=str(job.trigger),
                    next_run_time=next_run_times.get(job.id),
                    paused=False,
                )
                for job in self._jobs
            ],
            problem=self._problem(seen.problem if seen else None) if started else _NOT_STARTED,
        )

    def _problem(self, seen: str | None) -> str | None:
        return seen or (self._elector.trouble if self._elector else None)

    def _check_registration(self) -> None:
        if self._scope is not None:
            raise JobDefinitionError(
                "jobs and tasks are registered before the Election starts, in every worker alike:"
                " put them at module level"
            )


class Lifespan:
    """The lifespan of an application that takes part in a pool: ``FastAPI(lifespan=election.lifespan)``.

    ``election.lifespan.inside(existing)`` opens the election within a lifespan that the application has already, so
    that jobs find what that one provides, and have ended before it is taken away.
    """

    def __init__(self, election: Election) -> None:
        self._election = election

    @asynccontextmanager
    async def __call__(self, app: Any) -> AsyncIterator[None]:
        async with self._election:
            yield

    def inside(self, existing: ExistingLifespan) -> ExistingLifespan:
        """A lifespan that is ``existing`` with the election running inside; what ``existing`` yields is passed on."""

        @asynccontextmanager
        async def both(app: Any) -> AsyncIterator[Any]:
            async with existing(app) as state, self._election:
                yield state

        return both


def _check(
    heartbeat: float, safety_poll: float, stalled_after: float, drain_timeout: float, options: dict[str, Any]
) -> None:
    if heartbeat <= 0 or safety_poll <= 0:
        raise ConfigurationError("heartbeat and safety_poll are seconds, and more than 0")
    if stalled_after < 2 * heartbeat:
        raise ConfigurationError(
            f"stalled_after={stalled_after:g} would call a healthy leader stalled: give at least two heartbeats"
            f" ({2 * heartbeat:g} s)"
        )
    if drain_timeout < 0:
        raise ConfigurationError("drain_timeout is seconds, and not less than 0")
    for name in options.keys() - {"timezone", "job_defaults", "jobstore_retry_interval"}:
        raise ConfigurationError(
            f"scheduler_options[{name!r}] cannot be given: an Election brings its own executor and job store;"
            " what can: timezone, job_defaults"
        )
