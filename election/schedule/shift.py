"""One term's shift: an ``AsyncIOScheduler`` of its own, kept in step with the ledger.

The plan is made anew at the start, when somebody else has written to the ledger, and after the ledger was out of
reach; while it is, nothing runs unclaimed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import datetime

from election.core.backoff import backoff_s, is_logged
from election.core.clock import Clock, first, since_boot
from election.core.errors import LedgerError, LedgerVersionError, StaleTermError
from election.core.events import Event, named
from election.core.process import ProcessIdentity
from election.core.term import Standing, Term

from .executor import TermExecutor
from .job_info import changed_descriptions
from .jobs import Job, JobRegistry
from .ledger import Ledger
from .ledger_writer import LedgerWriter
from .model import Action, CompleteRequest, State, Tick
from .options import WorkOptions
from .plan import make_plan
from .pruning import keep_pruned
from .reporting import RunReporter
from .scheduler_adapter import SchedulerAdapter
from .stored import load_jobs

log = logging.getLogger("election")


class Shift:
    """Schedule and runs of one term. ``begin``, ``kept_going``, ``pause``, ``end``, in this order."""

    def __init__(
        self,
        jobs: JobRegistry,
        ledger: Ledger,
        term: Term,
        process: ProcessIdentity,
        *,
        clock: Clock,
        options: WorkOptions,
        lost: asyncio.Event,
        resign: Callable[[], object],
        tell: Callable[[Event], None],
        holds: Callable[[], bool],
        takeover_ms: Callable[[], float | None],
    ) -> None:
        self._registry = jobs
        self._ledger = ledger
        self._term = term
        self._process = process
        self._clock = clock
        self._options = options
        self._lost = lost
        self._resign = resign
        self._takeover_ms = takeover_ms
        self._began_ns = since_boot()
        self._jobs: dict[str, Job] = {}
        self._accounted: dict[str, datetime] = {}
        self._schedules: dict[str, datetime] = {}
        self._in_trouble = asyncio.Event()
        self._confirmed = False
        self.trouble: str | None = None
        self._books = LedgerWriter(
            ledger, term.number, holds=holds, on_trouble=self._on_trouble, on_stale=self._on_stale
        )
        self._timetable = SchedulerAdapter(clock, options)
        self._teller = RunReporter(term.number, clock, tell)
        self.executor = TermExecutor(
            self._jobs, term, self._books, clock, self._accounted, self._schedules, self._timetable.gap, self._teller,
            options.around,
        )  # fmt: skip

    async def begin(self) -> None:
        """Open the term in the ledger and start the scheduler.

        A ledger that cannot be reached now is tried again later, and nothing runs until then. Raises
        ``StaleTermError`` if a later term has begun, ``LedgerVersionError`` for a ledger of another version.
        """
        self._timetable.open(self.executor, self._books.write)
        try:
            await self._take_stock()
        except LedgerError as error:
            self._on_trouble(error)
        else:
            self._timetable.resume()

    @asynccontextmanager
    async def kept_going(self) -> AsyncIterator[None]:
        """Keep in step with the ledger while the scope is open."""
        steps = [self._follow(), keep_pruned(self._ledger, self._clock, self._options.retention)]
        tasks = [asyncio.create_task(step, name="election shift") for step in steps]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def pause(self) -> None:
        """No new ticks from now on."""
        self._timetable.pause()

    async def end(self, standing: Standing) -> None:
        """Write down how the term ended; what cannot be written is left for the next leader to settle."""
        if left := await self._books.close():
            log.warning(
                "the ledger could not be told of %d events; the next leader settles these runs",
                left,
                extra=named("runs_left_open"),
            )
        try:
            await self._ledger.end_term(self._term.number, standing)
        except (LedgerError, LedgerVersionError) as error:
            log.warning(
                "the ledger could not be told that term %d ended: %s",
                self._term.number,
                error,
                extra=named("term_left_open"),
            )

    def stop_scheduler(self) -> None:
        self._timetable.close()

    # --- keeping in step --------------------------------------------------------------------------------------------

    async def _take_stock(self) -> None:
        ours = self.executor.running() | self._books.unwritten()  # asked first: what ends meanwhile is read as open
        state = await self._ledger.begin_term(self._term, self._process, began_ns=self._began_ns)
        await self._apply(state, ours)

    async def _apply(self, state: State, ours: Collection[Tick]) -> None:
        """Plan for ``state``, write the plan down, then let the scheduler go by it.

        ours: the ticks of open runs that are in good hands.
        """
        jobs, broken = load_jobs(self._registry, state)
        gone = self._jobs.keys() - jobs.keys()
        self._timetable.drop(gone)
        for job_id in gone:
            del self._jobs[job_id]
        self._jobs.update(jobs)
        self._forget_replaced(state)
        plan = make_plan(
            self._jobs,
            state,
            now=self._clock.now(),
            catch_up_limit=self._options.catch_up_limit,
            accounted=self._accounted,
            running=ours,
        )
        described = changed_descriptions({job.id: job.info for job in self._jobs.values()}, state)
        entries = [*plan.entries, *broken, *described, *self._answers(state)]
        if entries:
            await self._ledger.record(self._term.number, entries)
        self._teller.planned(plan.entries, {run.tick: run.attempt for run in state.open_runs})
        self._forget_replaced(state)  # nothing of theirs that was handed over meanwhile has counted
        self._schedules.update(plan.schedules)
        self._timetable.follow(plan.starts, self._jobs, self._accounted)
        for run in plan.reruns:
            self.executor.rerun(self._jobs[run.tick.job_id], run)
        self._carry_out(state)

    def _forget_replaced(self, state: State) -> None:
        """Drop the progress of replaced schedules: it does not apply to the ticks of the new ones."""
        for found in state.jobs:
            known = self._schedules.get(found.id)
            if known is not None and found.scheduled_since > known:
                self._accounted.pop(found.id, None)

    def _answers(self, state: State) -> list[CompleteRequest]:
        """Requests that come to nothing, or that are done with as soon as they are read."""
        return [
            CompleteRequest(request.id, self._clock.now())
            for request in state.requests
            if request.action is Action.RESIGN or request.job_id not in self._jobs
        ]

    def _carry_out(self, state: State) -> None:
        for request in state.requests:
            if request.action is Action.RESIGN and request.term == self._term.number:
                log.info("asked to resign term %d", self._term.number, extra=named("resignation_requested"))
                self._resign()
            elif request.action is Action.RUN and request.job_id in self._jobs:
                self.executor.run_now(self._jobs[request.job_id], request.id, request.at)

    async def _follow(self) -> None:
        """Look every so often at what others have written; come back when the ledger can be reached again."""
        failures = 0
        while True:
            if self.trouble is None:
                wait_for_changes = (
                    [self._options.wait_for_changes()] if self._options.wait_for_changes is not None else []
                )
                await first(self._clock.sleep(self._options.poll_interval), self._in_trouble.wait(), *wait_for_changes)
            else:
                await self._clock.sleep(backoff_s(self._options.poll_interval, failures))
            try:
                if self.trouble is not None:
                    await self._take_stock()
                    self._recovered(failures)
                elif (state := await self._ledger.changes()) is not None:
                    # Nobody else claims, and what a former leader left was settled when stock was taken.
                    await self._apply(state, [run.tick for run in state.open_runs])
                await self._confirm()
                failures = 0
            except StaleTermError as error:
                self._on_stale(error)
                return
            except Exception as error:  # whatever it is, it must not end the looking: nobody else would come back
                failures += 1
                unknown = not isinstance(error, LedgerError | LedgerVersionError)
                if unknown and is_logged(failures):
                    log.exception("the term's plan could not be followed", extra=named("plan_failed"))
                self._on_trouble(error)

    async def _confirm(self) -> None:
        takeover_ms = None if self._confirmed else self._takeover_ms()
        if takeover_ms is not None:
            await self._ledger.confirm_term(self._term.number, takeover_ms)
            self._confirmed = True

    # --- what goes wrong --------------------------------------------------------------------------------------------

    def _on_trouble(self, error: Exception) -> None:
        if self.trouble is None:
            log.error("no tick is run while the ledger cannot be used: %s", error, extra=named("ledger_failed"))
        self.trouble = str(error) or repr(error)
        self._in_trouble.set()
        self._timetable.pause()

    def _recovered(self, failures: int) -> None:
        log.info("the ledger can be used again, after %d failed tries", failures, extra=named("ledger_recovered"))
        self.trouble = None
        self._in_trouble.clear()
        self._books.resume()
        self._timetable.resume()

    def _on_stale(self, error: StaleTermError) -> None:
        log.error("term lost: %s", error, extra=named("term_lost"))
        self._lost.set()
