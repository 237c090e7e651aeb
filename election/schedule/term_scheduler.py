"""Scheduler of one term: a scope that runs jobs and tasks, in step with the ledger, and drains them at its end.

Promises P5: no job code runs before the scope is entered, and the scope is not left while job code runs. The plan is
made at the start, when another process has written to the ledger, and after the ledger could not be reached; while it
cannot, nothing runs unclaimed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from election.core.backoff import backoff_s, is_logged
from election.core.clock import Clock, first, since_boot, yield_to_loop
from election.core.errors import LedgerError, LedgerVersionError, StaleTermError, UnfinishedJobsError
from election.core.events import Event, named
from election.core.logs import log
from election.core.process import current_process
from election.core.term import Standing
from election.core.term_context import TermContext
from election.core.watched_task import WatchedTask

from .commands import FinishJob
from .executor import TermExecutor
from .job_info import changed_descriptions
from .job_runner import MAX_THREADS, Around, JobRunner
from .jobs import JobRegistry
from .ledger import Ledger
from .ledger_writer import LedgerWriter
from .lint import log_changed_zones, log_remarks
from .model import Action, Request, State, Tick
from .plan import Losses, make_plan, rerun_delay_s, unknown_jobs
from .reporting import RunReporter
from .requests import cancel, sort_requests
from .run_threads import counting_threads
from .scheduler_adapter import SchedulerAdapter
from .stored import load_jobs, mark_broken
from .tasks import RunningTasks, TaskRegistry
from .term_jobs import TermJobs
from .term_warnings import TermWarnings

CANCEL_GRACE_S = 0.5
"""Time that cancelled coroutines get to end when the event loop itself is going down."""


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """The options of an Election that concern its jobs.

    drain_timeout: seconds that runs may take to end by themselves after a resignation.
    poll_interval: seconds between two polls of the ledger for changes by other processes.
    wait_for_changes: returns as soon as another process has written; None if only a poll detects that.
    catch_up_limit: ticks of a job that a leader catches up with at most.
    retention: how long history is kept; None for ever.
    scheduler_options: options of each term's ``AsyncIOScheduler``.
    max_threads: plain functions that run at the same time.
    around: see ``Election.around_runs``; the first is the outermost.
    """

    drain_timeout: float
    poll_interval: float
    catch_up_limit: int
    retention: timedelta | None
    scheduler_options: Mapping[str, Any]
    max_threads: int = MAX_THREADS
    around: Sequence[Around] = ()
    wait_for_changes: Callable[[], Awaitable[None]] | None = None


class TermScheduler:
    """Runs jobs and tasks for one term: ``async with TermScheduler(...)``.

    Entering raises ``StaleTermError`` if a later term has begun, and ``LedgerVersionError`` for a ledger of another
    version; a ledger that cannot be reached is tried again later, and nothing runs until then. Leaving raises
    ``UnfinishedJobsError`` if the event loop goes down while job code runs.

    Args:
        context: The term.
        registry: Jobs of the code.
        tasks: Tasks that run while this worker leads.
        ledger: Ledger of the leader; closed at the end.
        clock: Time of ticks and waits.
        options: Options of the Election.
    """

    def __init__(
        self,
        context: TermContext,
        registry: JobRegistry,
        tasks: TaskRegistry,
        ledger: Ledger,
        clock: Clock,
        options: ScheduleOptions,
    ) -> None:
        self._context = context
        self._registry = registry
        self._tasks = tasks
        self._ledger = ledger
        self._clock = clock
        self._options = options
        self._number = context.term.number
        self._began_ns = since_boot()
        self._confirmed = False
        self._losses: Losses | None = None
        self._cancelled: set[int] = set()
        """Requests to cancel a run that were carried out."""
        self._ledger_failed = asyncio.Event()
        self._warnings = TermWarnings(context, clock)
        self._running_tasks = RunningTasks({})
        self._background: list[WatchedTask] = []
        self._counting_threads = contextlib.ExitStack()
        self._writer = LedgerWriter(
            ledger, self._number, is_held=context.is_held, on_failure=self._on_failure, on_stale=self._on_stale
        )
        self._adapter = SchedulerAdapter(clock, options.scheduler_options, options.catch_up_limit)
        self._jobs = TermJobs(registry, self._adapter, self._writer, clock, ledger.find_jobs)
        self._reporter = RunReporter(self._number, clock, self._emit)
        runner = JobRunner(options.max_threads, clock, options.around)
        self._executor = TermExecutor(
            self._number, self._writer, clock, self._jobs.progress, self._reporter, runner, self._jobs.on_idle,
            self._jobs.on_refused,
        )  # fmt: skip
        context.queued = self._executor.queued()

    @property
    def problem(self) -> str | None:
        """Why nothing can be claimed now; None if it can."""
        return self._context.problem

    def unfinished(self) -> list[str]:
        """Ids of the jobs, and names of the tasks, whose code runs now."""
        return self._executor.unfinished() + self._running_tasks.unfinished()

    async def __aenter__(self) -> Self:
        jobs = self._jobs
        handed_over = self._warnings.noting_time(self._writer.write)
        self._adapter.open(self._executor, handed_over, jobs.on_broken, jobs.on_exhausted, jobs.on_moved)
        try:
            await self._begin()
        except BaseException:
            await self._close()
            raise
        self._counting_threads.enter_context(counting_threads(asyncio.get_running_loop()))
        self._running_tasks = self._tasks.start(self._clock)
        steps = {
            "election scheduler": self._follow_ledger(),
            "election retention": self._ledger.keep_pruned(self._options.retention),
            "election failures": self._reporter.load(self._ledger),
            "election remarks": log_remarks({job.id: job.trigger for job in self._registry}, self._clock.now()),
        }
        resign = self._context.resign  # the next term starts all of them again
        self._background = [WatchedTask(step, name=name, on_death=resign) for name, step in steps.items()]
        return self

    async def __aexit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        for task in self._background:
            task.cancel()
        try:
            try:
                self._adapter.pause()
                await self._drain()
            finally:  # job code does not wait for a read of the ledger that is under way
                await asyncio.gather(*(task.task for task in self._background), return_exceptions=True)
            if error_type is None:
                await self._end(Standing.LOST if self._context.lost.is_set() else Standing.RESIGNED)
                self._context.problem = None
        finally:
            await self._close()

    async def _begin(self) -> None:
        try:
            await self._open_term()
        except LedgerError as error:
            self._on_failure(error)
        else:
            self._adapter.resume()

    async def _drain(self) -> None:
        """Wait for running code, within the limit unless the term is lost; then cancel it, and wait for its end."""
        executor, tasks, lost = self._executor, self._running_tasks, self._context.lost
        tasks.cancel()
        executor.close()
        try:
            if not lost.is_set():
                limit = self._options.drain_timeout
                await first(executor.wait(), self._clock.sleep(limit), lost.wait())
                if executor.unfinished() and not lost.is_set():
                    log.warning(
                        "the drain limit of %g s has passed and these jobs still run: %s;"
                        " coroutines are cancelled now, threads cannot be, and the seat stays held until they end",
                        limit, ", ".join(executor.unfinished()), extra=named("drain_timed_out"),
                    )  # fmt: skip
            executor.cancel()
            await executor.wait()
            await tasks.wait()
        except asyncio.CancelledError:  # the event loop is going down
            executor.cancel()
            with contextlib.suppress(asyncio.CancelledError):  # a second one changes nothing: the code still runs
                await first(executor.wait(), self._clock.sleep(CANCEL_GRACE_S))
            if left := executor.unfinished() + tasks.unfinished():
                raise UnfinishedJobsError(f"still running: {', '.join(left)}") from None
            raise

    async def _end(self, standing: Standing) -> None:
        """Record how the term ended. The next leader settles runs that cannot be settled now."""
        if left := await self._writer.close():
            log.warning(
                "%d results could not be written to the ledger; the next leader settles these runs",
                left,
                extra=named("runs_left_open"),
            )
        try:
            await self._ledger.end_term(self._number, standing)
        except (LedgerError, LedgerVersionError) as error:
            log.warning(
                "the end of term %d could not be written to the ledger: %s",
                self._number,
                error,
                extra=named("term_left_open"),
            )

    async def _close(self) -> None:
        self._counting_threads.close()
        self._adapter.close()
        await self._ledger.close()

    # --- in step with the ledger --------------------------------------------------------------------------------------

    async def _open_term(self) -> None:
        # Before the state is read: a run that ends meanwhile is open in it.
        ours = self._executor.running() | self._writer.unwritten()
        state = await self._ledger.begin_term(self._context.term, current_process(), began_ns=self._began_ns)
        since = await self._lost_since(state) if self._losses is None else self._losses.since
        planned = {job_id: each.scheduled_since for job_id, each in self._jobs.progress.items() if each.scheduled_since}
        self._losses = Losses(since, self._context.term.elected_at, planned)
        never_begun = self._executor.never_begun(state.open_runs)
        await self._take(state, ours.union(run.tick for run in never_begun))
        self._executor.begin_late(never_begun)

    async def _lost_since(self, state: State) -> datetime | None:
        """End of the term before, if its ledger was lost; None if this ledger knows a job of the code, or that term."""
        term, now = self._context.term, self._clock.now()
        if not term.follows_work or any(job.stored is None for job in state.jobs):
            return None
        if len(await self._ledger.terms(limit=2)) > 1:
            return None
        since = min(term.takeover.vacant_since, now)
        self._warnings.lost(self._number, since, now)
        return since

    async def _take(self, state: State, ours: Collection[Tick]) -> None:
        """Plan the urgent part of a state that was read from the ledger; the rest is pending.

        Args:
            state: State of the ledger, or a change of it.
            ours: Ticks of open runs that this process runs.
        """
        self._warnings.planned(state)
        self._warnings.copied(state.copied)
        await self._apply(await self._jobs.take(state), ours)

    async def _apply(self, state: State, ours: Collection[Tick] = ()) -> None:
        """Plan for a slice of the jobs, write the plan down, then let the scheduler follow it."""
        jobs, unloaded = load_jobs(self._registry, state, self._jobs.imports.check)
        self._jobs.update(jobs, state)
        progress = self._jobs.progress
        peers_differ = bool(unknown_jobs(jobs, state)) and await self._context.peers_differ()
        plan = make_plan(
            jobs,
            state,
            now=self._clock.now(),
            catch_up_limit=self._options.catch_up_limit,
            settled_until={job_id: progress[job_id].settled_until for job_id in jobs},
            running=ours,
            starting={job_id for job_id in jobs if not progress[job_id].begun},
            peers_differ=peers_differ,
            losses=self._losses,
        )
        described = changed_descriptions({job.id: job.info for job in jobs.values()}, state)
        known = self._jobs.loaded, self._jobs.unplanned
        completed, wanted = sort_requests(state, *known, term=self._number, now=self._clock.now())
        entries = [*plan.entries, *mark_broken(unloaded, state), *described, *self._jobs.hints(plan, state), *completed]
        granted = await self._writer.claim(entries) if entries else []  # after the claims that wait (P4)
        self._jobs.planned(plan, unloaded, state)
        if not self._jobs.pending:
            self._warnings.kept(self._jobs.kept)
        log_changed_zones(state.jobs, plan.entries)
        self._reporter.planned(plan.entries, {run.tick: run.attempt for run in state.open_runs})
        for run in plan.given_up:
            self._reporter.given_up(run.tick, run.attempt, run.interruptions + 1)
        self._jobs.follow(plan, jobs, state)
        for run in plan.reruns:
            self._executor.rerun(progress[run.tick.job_id], run, rerun_delay_s(run.interruptions))
        for entry, yes in zip(entries, granted, strict=True):
            if yes and isinstance(entry, FinishJob):
                self._jobs.forget(entry.job_id)
        self._carry_out(wanted)

    def _carry_out(self, requests: Sequence[Request]) -> None:
        for request in requests:
            if request.action is Action.RESIGN:
                log.info("resignation from term %d requested", self._number, extra=named("resignation_requested"))
                self._context.resign()
            elif request.action is Action.CANCEL:
                if request.id not in self._cancelled:  # until that is written, each poll returns the request again
                    self._cancelled.add(request.id)
                    self._writer.append(cancel(request, self._executor.cancel_run, self._clock.now()))
            elif (progress := self._jobs.progress.get(request.job_id or "")) is not None:  # else a later poll answers
                self._executor.run_now(progress, request)

    async def _follow_ledger(self) -> None:
        """Apply changes by other processes as they come; go on when a ledger that failed can be used again."""
        failures, look_at = 0, self._clock.monotonic() + self._options.poll_interval
        while True:
            await self._wait_for_changes(failures)
            try:
                is_time = not self._jobs.pending or self._clock.monotonic() >= look_at
                if is_time:
                    look_at = self._clock.monotonic() + self._options.poll_interval
                if self.problem is not None:
                    await self._open_term()
                    self._recover(failures)
                elif await self._jobs.plan_again(self._context.peers_differ) or not is_time:
                    pass  # the next slice
                elif (state := await self._ledger.changes()) is not None:
                    # Only this leader claims; runs that a former one left open were settled when the term was opened.
                    await self._take(state, [run.tick for run in state.open_runs])
                if (part := await self._jobs.next_slice()) is not None:
                    await self._apply(part)
                if not self._jobs.pending and self.problem is None:
                    self._adapter.resume()
                if is_time:
                    self._warnings.look(self._jobs.progress.values())
                    await self._confirm()
                failures = 0
            except StaleTermError as error:
                self._on_stale(error)
                return
            except Exception as error:  # no error may end this loop: nothing else would notice a recovery
                failures += 1
                unknown = not isinstance(error, LedgerError | LedgerVersionError)
                if unknown and is_logged(failures):
                    log.exception("planning the jobs of the term failed", extra=named("plan_failed"))
                self._on_failure(error)
                if isinstance(error, LedgerVersionError):
                    self._context.resign()  # the workers that have migrated the ledger can lead

    async def _wait_for_changes(self, failures: int) -> None:
        if self.problem is not None:
            await self._clock.sleep(backoff_s(self._options.poll_interval, failures))
            return
        if self._jobs.pending:
            await yield_to_loop()
            await self._writer.wait_for_claims(self._clock)
            return
        wait_for_changes = self._options.wait_for_changes
        events: list[Awaitable[object]] = [] if wait_for_changes is None else [wait_for_changes()]
        events += [self._ledger_failed.wait(), self._jobs.imports.ended.wait()]
        await first(self._clock.sleep(self._options.poll_interval), *events)

    async def _confirm(self) -> None:
        """Record the duration of the takeover, once it is known."""
        if not self._confirmed and self._context.takeover_ms is not None:
            await self._ledger.confirm_term(self._number, self._context.takeover_ms)
            self._confirmed = True

    def _emit(self, event: Event) -> None:
        self._warnings.on_event(event)
        self._context.emit(event)

    # --- failures -----------------------------------------------------------------------------------------------------

    def _on_failure(self, error: Exception) -> None:
        if self.problem is None:
            log.error("no tick is run while the ledger cannot be used: %s", error, extra=named("ledger_failed"))
        self._context.problem = str(error) or repr(error)
        self._ledger_failed.set()
        self._adapter.pause()

    def _recover(self, failures: int) -> None:
        log.info("the ledger can be used again, after %d failed tries", failures, extra=named("ledger_recovered"))
        self._context.problem = None
        self._ledger_failed.clear()
        self._writer.resume()
        self._jobs.finish_idle()

    def _on_stale(self, error: StaleTermError) -> None:
        if not self._context.lost.is_set():
            log.error("term lost: %s", error, extra=named("term_lost"))
        self._context.lost.set()
