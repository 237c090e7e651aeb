"""``Election``: the object that an application registers its jobs with, and starts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from apscheduler.triggers.base import BaseTrigger
from fastapi import APIRouter

from .core.backend import DEFAULT_TIMING, SeatTiming
from .core.clock import Clock, SystemClock
from .core.errors import ElectionError, JobDefinitionError, PoolInUseError
from .core.events import named
from .core.hooks import Hook, Hooks
from .core.logs import log
from .core.numbers import to_count
from .core.term_context import TermContext
from .dependencies import Dependencies
from .engines import Engine, open_engine
from .lifespan import Lifespan
from .membership import NOT_STARTED, Membership
from .operation import LedgerAccess, Operation
from .options import Timing, engine_timing, parse_notify, parse_retention, parse_scheduler_options
from .pool_jobs import PoolJobs
from .requested_run import RequestedRun
from .schedule.audit import identify
from .schedule.functions import reference_to
from .schedule.job_runner import MAX_THREADS, Around
from .schedule.jobs import JobRegistry
from .schedule.ledger import Ledger
from .schedule.run import in_a_run
from .schedule.stored import import_function, parse_if_exists, to_new_job
from .schedule.tasks import Task, TaskRegistry
from .schedule.term_scheduler import ScheduleOptions, TermScheduler
from .schedule.unsupported import check_trigger, describe_missing
from .web.guard import build_leader_only, check_allowed_hosts
from .web.health import build_health
from .web.metrics import build_metrics
from .web.router import build_router
from .web.view import PoolView

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Task = TypeVar("_Task", bound=Task)
_Hook = TypeVar("_Hook", bound=Hook)
_Around = TypeVar("_Around", bound=Around)


class Election:
    """A worker's part in a pool: the jobs, and the election that decides where they run.

    pool: the pool's directory, or the URL of a server: ``postgresql://…``, ``redis://…``. Workers with the same one
        elect one leader. Or an engine whose ledger is your own, see docs/engines/your-own.md: the options that
        ``open_engine`` takes are given there, and the Election has the engine's ``heartbeat``.
    ledger: with a pool on Redis, the ``postgresql://…`` URL of a database that keeps the ledger instead.
    heartbeat: seconds between two heartbeats of the leader's event loop.
    safety_poll: seconds after which a follower tries the seat even if nothing has woken it.
    stalled_after: seconds without a heartbeat after which ``/leader`` calls the leader unresponsive.
    fence_after: seconds until a hanging leader, or a worker that locks the ledger, is killed; None to report it only.
    drain_timeout: seconds that running jobs get to end when the leader resigns.
    catch_up_limit: ticks of one job that a new leader catches up with at most; older ticks are skipped as ``down``.
    max_threads: plain functions that run at the same time; others wait until one of them has ended.
    retention: how long history is kept; None for ever.
    durable: whether each claim waits for the disk; if not, a power cut (not a crash) can lose the last claims.
    scheduler_options: passed to each term's ``AsyncIOScheduler``: ``timezone``, ``job_defaults``.
    allowed_hosts: host names in requests of a proxy on this machine; over a loopback address the routes answer for
        localhost and addresses only, so that no page of another site can read them (DNS rebinding). ``["*"]`` for any.
    allow_network_fs: accept a pool directory on a filesystem where flock may exclude nobody.
    candidate: False for a worker that never leads: it answers, adds jobs and reads, and leaves the seat to the others.
    notify: function, or functions, called with each alert: the events of jobs that fail, recover, are late or overlong
        and of leaders that died; a call that raises is repeated for two minutes.

    Constructing one does no I/O. Raises ``ConfigurationError`` for arguments that cannot work.
    """

    def __init__(
        self,
        pool: str | os.PathLike[str] | Engine,
        *,
        ledger: str | None = None,
        heartbeat: float = DEFAULT_TIMING.heartbeat,
        safety_poll: float = DEFAULT_TIMING.safety_poll,
        stalled_after: float = 3.0,
        fence_after: float | None = None,
        drain_timeout: float = 10.0,
        catch_up_limit: int = 1000,
        max_threads: int = MAX_THREADS,
        retention: timedelta | None = timedelta(days=30),
        durable: bool = False,
        scheduler_options: Mapping[str, Any] | None = None,
        allowed_hosts: Collection[str] = (),
        allow_network_fs: bool = False,
        candidate: bool = True,
        notify: Hook | Iterable[Hook] | None = None,
    ) -> None:
        self._allowed_hosts = check_allowed_hosts(allowed_hosts)
        options = parse_scheduler_options(scheduler_options)
        seat = SeatTiming(heartbeat, safety_poll, fence_after)
        if isinstance(pool, Engine):
            others = {"ledger": ledger is not None, "durable": durable, "allow_network_fs": allow_network_fs}
            seat = engine_timing(pool.timing, seat, **others)
        self._timing = Timing(seat.heartbeat, stalled_after, seat.fence_after, drain_timeout)
        self._clock: Clock = SystemClock()
        self._dependencies = Dependencies()
        self._access = LedgerAccess(self._clock)
        self._jobs = JobRegistry(options, self._clock, self._dependencies.wrap)
        self._tasks = TaskRegistry()
        self._hooks = Hooks(self._clock, parse_notify(notify))
        self._around: list[Around] = []
        self._schedule_options = ScheduleOptions(
            self._timing.drain_timeout, seat.heartbeat, to_count(catch_up_limit, "catch_up_limit"),
            parse_retention(retention), options, to_count(max_threads, "max_threads"), self._around,
        )  # fmt: skip
        self._candidate = candidate
        self._member: Membership | None = None
        self._scheduler: TermScheduler | None = None
        self._warned = False
        self._view = PoolView(
            self._jobs,
            clock=self._clock,
            stalled_after=self._timing.stalled_after,
            started=lambda: self._member is not None,
            problem=self._problem,
        )
        self._use(
            pool
            if isinstance(pool, Engine)
            else open_engine(
                pool, ledger=ledger, heartbeat=heartbeat, safety_poll=safety_poll, fence_after=fence_after,
                allow_network_fs=allow_network_fs, durable=durable, clock=self._clock,
            )
        )  # fmt: skip

    def scheduled_job(
        self, trigger: str | BaseTrigger, expression: str | None = None, **arguments: Any
    ) -> Callable[[_Function], _Function]:
        """Register the decorated function as a job; the arguments are those of APScheduler's ``scheduled_job``.

        The trigger ``"crontab"`` takes an ``expression`` as cron reads it: ``scheduled_job("crontab", "0 9 * * mon")``.

        ``misfire_grace_time`` is 30 s unless given. ``name``, ``description`` (by default the first line of the
        function's docstring) and ``tags`` (single words) are for people, wherever the job is shown. Raises
        ``JobDefinitionError`` for arguments that cannot work.
        """
        self._check_registration()
        check_trigger(trigger, f"job {arguments['id']!r}" if "id" in arguments else "a job")

        def register(func: _Function) -> _Function:
            self._jobs.add(func, trigger, expression=expression, **arguments)
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

    def on_event(self, hook: _Hook) -> _Hook:
        """Call the decorated function with every event in this worker, a frozen value (``election.events``).

        A plain function is called in its own thread, a coroutine function in its own task: one that raises or hangs
        affects nothing else.
        """
        self._hooks.add(hook)
        return hook

    def around_runs(self, around: _Around) -> _Around:
        """Enter the context manager ``around(run)`` around each attempt at a run, in the process that makes it.

        The context manager is entered on the event loop, so it may not block. Context variables that it sets are
        visible to the job's code, and exceptions of that code are raised in it. Its own exceptions fail the run.
        """
        self._check_registration()
        self._around.append(around)
        return around

    def add_job(
        self,
        func: Callable[..., Any] | str,
        trigger: str | BaseTrigger,
        *,
        id: str | None = None,  # noqa: A002  APScheduler's own name for it
        kwargs: Mapping[str, Any] | None = None,
        if_exists: Literal["error", "keep", "replace"] = "error",
        replace: bool = False,
        by: str | None = None,
        **arguments: Any,
    ) -> Operation[None]:
        """Add a job, which the leader runs.

        An awaited call, in any worker or in a script that takes no part, stores the job in the ledger; the job survives
        restarts. A call that is not awaited, before the start, as at module level, adds a job of the code, as with
        ``scheduled_job``; the same registration again, as by a second start, changes nothing. Once the Election has
        started, the job is stored even if the call is not awaited; a thread waits with ``add_job(…).result()``.

        func: a function; for a stored job at module level, or as a reference, ``"package.module:function"``.
        id: the job's name in the pool; for a job of the code by default ``module:qualname``.
        kwargs: arguments of the function; JSON for a stored job. The other arguments are those of ``scheduled_job``.
        if_exists: what to do if a job was stored under that id before: ``"error"``, ``"keep"`` it, or ``"replace"`` it;
        a replaced job with the same trigger keeps its schedule, so that an application may replace it at each start.
        replace: the same as ``if_exists="replace"``, and so is APScheduler's ``replace_existing``.
        by: who adds a stored job, for the audit trail; by default this process.

        Raises ``JobDefinitionError`` for arguments that cannot work or that another process could not run; awaited,
        also for an id that is taken, and ``LedgerError`` if the job cannot be stored.
        """
        exists = parse_if_exists("replace" if arguments.pop("replace_existing", False) or replace else if_exists)
        arguments |= {"id": id, "kwargs": kwargs}
        if self._member is not None:
            return self.jobs.add(func, trigger, if_exists=exists.value, by=by, **arguments)
        function = import_function(func, id or func) if isinstance(func, str) else func
        is_known = (id or reference_to(function)) in self._jobs
        job = self._jobs.add(function, trigger, **arguments)

        async def store(ledger: Ledger) -> None:
            if not is_known:  # else it is a job of the code, and stays one
                self._jobs.discard(job)
                new = to_new_job(self._jobs, func, trigger, **arguments)
                await ledger.store_jobs([new], if_exists=exists, by=by)

        return self._access.perform(store, f"add_job(…, id={id!r})", optional=True)

    def add_jobs(
        self,
        jobs: Iterable[Mapping[str, Any]],
        *,
        if_exists: Literal["error", "keep", "replace"] = "error",
        replace: bool = False,
        by: str | None = None,
    ) -> Operation[None]:
        """Add many jobs at run time; replace: the same as ``if_exists="replace"``. See ``PoolJobs.add_many``."""
        return self.jobs.add_many(jobs, if_exists="replace" if replace else if_exists, by=by)

    def remove_job(self, id: str, *, by: str | None = None) -> Operation[None]:  # noqa: A002
        """Remove a job that was added at run time; its history stays. Raises ``UnknownJobError``, ``LedgerError``."""
        return self.jobs.remove(id, by=by)

    def run_now(
        self,
        id: str,  # noqa: A002
        *,
        kwargs: Mapping[str, Any] | None = None,
        by: str | None = None,
    ) -> Operation[RequestedRun]:
        """Request a run of a job: ``run = await election.run_now("report")``; see ``PoolJobs.run_now``."""
        return self.jobs.run_now(id, kwargs=kwargs, by=by)

    @cached_property
    def jobs(self) -> PoolJobs:
        """The pool's jobs: list, change, pause and run them, from any worker; see ``PoolJobs``."""
        return PoolJobs(self._jobs, self._view, self._access, self._clock)

    def check(self) -> None:
        """Check whether the pool can be used, as a start does. Raises ``ConfigurationError`` with the way out."""
        self._engine.check()

    async def __aenter__(self) -> Self:
        """Take part in the pool. Raises ``ConfigurationError`` for permanent errors, and nothing else."""
        if self._member is not None:
            raise PoolInUseError("this Election has been started already; a process takes part in a pool once")
        self._engine.seat.code, self._engine.seat.candidate = self._jobs.digest(), self._candidate
        self._dependencies.loop = asyncio.get_running_loop()
        self._access.start()
        self._member = await Membership(
            self._engine, self._open_term, self._ledger, self._hooks, clock=self._clock, timing=self._timing
        ).__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave the pool: resign if leading, and return when the seat is given up or the drain limit has passed."""
        if self._member is None:
            return
        try:
            await self._member.__aexit__()
        finally:  # also for a caller that is cancelled
            self._member = None
            self._jobs.expect_again()
            for each in (self._view, self._access, self._ledger, self._engine.ledger):
                await each.close()  # a campaign reads the engine's before a term, and the term may not have begun

    @cached_property
    def lifespan(self) -> Lifespan:
        """For ``FastAPI(lifespan=election.lifespan)``; see ``Lifespan`` for an application that has one already."""
        return Lifespan(self, self._dependencies.use)

    @cached_property
    def router(self) -> APIRouter:
        """``GET /leader`` and the related routes, for ``app.include_router(election.router)``."""
        return self.routes()

    def routes(self, *, read: Callable[..., Any] | None = None, control: Callable[..., Any] | None = None) -> APIRouter:
        """The routes of ``router`` behind the application's own authentication.

        Args:
            read: Dependency of all that is read, as a function: ``read=user``; its exceptions are the answer.
            control: Dependency of what changes something, in the place of ``$ELECTION_ADMIN_TOKEN``. It returns the
                name that the audit trail records, or None.
        """
        return build_router(self._view, self._allowed_hosts, read=read, control=control)

    @cached_property
    def metrics(self) -> APIRouter:
        """``GET /metrics`` for Prometheus. Raises ``ConfigurationError`` without the extra ``metrics``."""
        return build_metrics(self._view, self._allowed_hosts)

    @cached_property
    def health(self) -> APIRouter:
        """``GET /healthz`` and ``GET /readyz``, of the worker that answers."""
        return build_health(self._view, self._problem)

    @property
    def is_leader(self) -> bool:
        """Whether this process leads, determined anew each time; False when in doubt (P8)."""
        return self.term is not None

    @property
    def term(self) -> int | None:
        """The number of the term that this process leads; None if it does not."""
        held = self._engine.seat.held() if self._member is not None else None
        return None if held is None else held.number

    async def resign(self, *, by: str | None = None) -> bool:
        """Give the seat up in good order: no new ticks, running jobs end, the next leader takes over.

        Returns whether this worker led, after the seat is given up; inside a job at once, because the job would wait
        for its own end. by: who wants that, for the audit trail, which may lack it if the ledger is out of reach.
        """
        identify(by)
        if self._member is None:
            return False
        if (term := self.term) is not None:  # the seat does not wait for the ledger
            self._access.perform(lambda ledger: ledger.record_resignation(term, by=by), "resign()")
        if in_a_run():
            return self._member.elector.request_resignation()
        return await self._member.elector.resign()

    async def wait_until_leading(self) -> None:
        """Return when this process leads. Raises ``ElectionError`` if it is not started, stops, or is no candidate."""
        if self._member is None:
            raise ElectionError(NOT_STARTED)
        await self._member.wait_until_leading()

    @cached_property
    def leader_only(self) -> Callable[[], Awaitable[None]]:
        """Dependency of routes that only the leader answers; the others answer 421 with the leader, or 503."""
        return build_leader_only(self._view, lambda: self.is_leader)

    def unfinished_jobs(self) -> list[str]:
        """The jobs and tasks whose code runs in this process now; after the shutdown, those that have not ended.

        Such a worker keeps the seat until its process is gone (P5), so end the process.
        """
        return self._scheduler.unfinished() if self._scheduler is not None else []

    if not TYPE_CHECKING:  # any name would pass a type checker

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(describe_missing(name), name=name, obj=self)

    def _check_registration(self) -> None:
        if self._member is not None:
            raise JobDefinitionError(
                "jobs and tasks are registered before the Election starts, in every worker alike:"
                " put them at module level, or add a job at run time: await election.add_job(…, id=…)"
            )

    def _use(self, engine: Engine) -> None:
        """Take part in the pool of ``engine`` from the next start on."""
        self._engine = engine
        self._ledger = engine.open_ledger()
        self._view.use(engine.pool, engine.name, engine.seat, self._ledger)
        self._access.use(self._ledger, engine.open_ledger)

    def _open_term(self, context: TermContext) -> TermScheduler:
        options = replace(self._schedule_options, wait_for_changes=self._engine.wait_for_changes)
        self._scheduler = TermScheduler(context, self._jobs, self._tasks, self._engine.ledger, self._clock, options)
        return self._scheduler

    def _problem(self) -> str | None:
        if self._member is not None:
            return self._member.problem
        if not self._warned:
            self._warned = True
            log.warning("a request to /leader found no running election: %s", NOT_STARTED, extra=named("not_started"))
        return NOT_STARTED
