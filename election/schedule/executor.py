"""Runs the jobs of one term: claims each tick before it calls the function, settles the run after (P3, P4).

The executor tracks at any time which code still runs (P5). APScheduler's own executors do not: ``shutdown(wait=True)``
waits neither for coroutines nor for threads.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from apscheduler.executors.base import BaseExecutor

from election.core.clock import Clock, yield_to_loop
from election.core.errors import StaleTermError
from election.core.events import named
from election.core.logs import log

from .attempts import TERM_OVER, Attempts
from .commands import Claim, Entry, Skip
from .job_runner import Attempt, JobRunner
from .jobs import Job, Overlap
from .ledger_writer import LedgerWriter
from .model import OpenRun, Request, SkipReason, Tick
from .policy import decide
from .progress import JobProgress
from .reporting import RunReporter

MAX_ASKED = 10_000
"""Requests that are remembered: far more than can be open in a state that was read a moment ago."""

_NEVER = datetime.max.replace(tzinfo=UTC)


class TermExecutor(BaseExecutor):  # type: ignore[misc]  # APScheduler 3 has no types
    """Runs the ticks that APScheduler finds due.

    Args:
        term: Number of the term.
        writer: Ledger of the term.
        clock: Time of ticks and timeouts.
        progress: Progress of each job by id; entries may come and go while the term lasts.
        reporter: Reports the runs and skips.
        runner: Calls the functions.
        on_idle: Called when no run of a job is under way or waiting any more.
        on_refused: Called with the id of a job of which the ledger has refused all ticks: its row has changed.
    """

    def __init__(
        self,
        term: int,
        writer: LedgerWriter,
        clock: Clock,
        progress: Mapping[str, JobProgress],
        reporter: RunReporter,
        runner: JobRunner,
        on_idle: Callable[[JobProgress], object],
        on_refused: Callable[[str], object],
    ) -> None:
        super().__init__()
        self._term = term
        self._on_idle = on_idle
        self._on_refused = on_refused
        self._writer = writer
        self._clock = clock
        self._progress = progress
        self._reporter = reporter
        self._runner = runner
        self._attempts = Attempts(term, writer, clock, runner, reporter)
        self._context = contextvars.copy_context()  # of the term: no run sees the variables of another
        self._tasks: dict[asyncio.Task[None], Job] = {}
        self._ticks: set[Tick] = set()
        self._claims: set[asyncio.Future[list[bool]]] = set()
        self._unanswered: set[Tick] = set()
        """Ticks of claims that failed, though the ledger may have granted them before the answer was lost."""
        self._looked_up: set[Tick] = set()
        """Those that the latest state of the ledger answers."""
        self._asked: OrderedDict[int, None] = OrderedDict()
        """Numbers of requests that were carried out: a state that was read before lists them as open."""

    # --- what APScheduler calls -----------------------------------------------------------------------------------

    def submit_job(self, job: Any, run_times: list[datetime]) -> None:
        """Decide which of the due ticks are run, start these and skip the others."""
        progress, now = self._progress[job.id], self._clock.now()
        dues = [due.astimezone(UTC) for due in run_times]
        gaps = {due: gap for due in dues if (gap := progress.skipped_range(due, now)) is not None}
        decision = decide(progress.job, dues, now=now, running=progress.active, gaps=list(gaps))
        since = progress.scheduled_since
        skips = [replace(skip, scheduled_since=since) for skip in (*decision.skips, *gaps.values())]
        limit = progress.job.max_instances
        entries: list[Entry] = [Claim(Tick(job.id, due), now, since, limit) for due in decision.run]
        self._start(progress, sorted([*skips, *entries], key=_due) if skips else entries)
        progress.settled_until = dues[-1]
        progress.begun = True

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        raise AssertionError("submit_job is replaced as a whole")

    def skip_rest(self, job_id: str) -> None:
        """Skip the ticks that were left out before the end of a schedule, which hands over no more (P4)."""
        progress = self._progress[job_id]
        over = progress.skipped_range(_NEVER, self._clock.now())
        if over is not None:
            self._start(progress, [replace(over, scheduled_since=progress.scheduled_since)])
            progress.settled_until = over.last_due

    def shutdown(self, wait: bool = True) -> None:
        """Called by APScheduler when all is done."""
        self._runner.close()

    # --- what the term calls --------------------------------------------------------------------------------------

    def run_now(self, progress: JobProgress, request: Request) -> None:
        """Run a job on request; the number of the request is the tick's identity."""
        job, at = progress.job, request.at
        tick = Tick(job.id, at, request.id)
        if request.id in self._asked:
            return
        self._asked[request.id] = None
        if len(self._asked) > MAX_ASKED:
            self._asked.popitem(last=False)
        if progress.active >= job.max_open:
            self._start(progress, [Skip(job.id, at, at, 1, SkipReason.OVERLAP, self._clock.now(), request=request.id)])
        else:
            self._start(progress, [Claim(tick, self._clock.now(), max_instances=job.max_instances)], request.kwargs)

    def rerun(self, progress: JobProgress, run: OpenRun, delay: float) -> None:
        """Retry a run that a former leader left open, as soon as ``max_instances`` allows; the run is claimed already.

        delay: seconds before the attempt.
        """
        self._ticks.add(run.tick)
        begin = functools.partial(self._begin_rerun, progress, run, delay)
        if progress.running < progress.job.max_instances:
            begin()
        else:
            progress.waiting += (begin,)

    def _begin_rerun(self, progress: JobProgress, run: OpenRun, delay: float) -> None:
        progress.running += 1
        attempts = self._attempts.run(_with_kwargs(progress.job, run.kwargs), run.tick, run.attempt, delay=delay)
        self._spawn(progress, attempts, [run.tick])

    def cancel_run(self, tick: Tick) -> str | None:
        """Cancel the run of a tick, for good. Returns why that cannot be done, or None."""
        if tick not in self._ticks:
            return "it does not run any more"
        return self._attempts.cancel_run(tick)

    def never_begun(self, runs: Iterable[OpenRun]) -> list[OpenRun]:
        """Those of the open runs that this term has claimed without an answer: their code has not begun."""
        self._looked_up = self._unanswered - self._ticks
        known = [run for run in runs if run.tick in self._looked_up and run.tick.job_id in self._progress]
        return [run for run in known if run.term == self._term]

    def begin_late(self, runs: Iterable[OpenRun]) -> None:
        """Begin runs that ``never_begun`` has returned, when the plan that leaves them out is written."""
        self._unanswered -= self._looked_up
        for run in runs:
            if (progress := self._progress.get(run.tick.job_id)) is not None:
                self.rerun(progress, run, 0.0)

    def running(self) -> set[Tick]:
        """The ticks that are claimed, or about to be, and not settled."""
        return self._ticks

    def unfinished(self) -> list[str]:
        """The ids of the jobs whose code still runs."""
        return sorted({job.id for job in self._tasks.values()} | set(self._runner.in_threads()))

    def queued(self) -> list[str]:
        """Ids of the jobs that wait for a thread, one for each run."""
        return self._attempts.queued

    def close(self) -> None:
        """Begin no new attempts from now on."""
        self._attempts.close()

    def cancel(self) -> None:
        """Cancel coroutines. A thread cannot be stopped, and goes on counting as running."""
        self._attempts.cancel()

    async def wait(self) -> None:
        """Return when no job code runs."""
        while waited := self._awaited():
            await asyncio.wait(waited)
            await yield_to_loop()  # let the callbacks remove the ended tasks

    # --- inside ---------------------------------------------------------------------------------------------------

    def _awaited(self) -> list[asyncio.Future[Any]]:
        return [*self._claims, *self._tasks, *self._runner.futures()]

    def _start(self, progress: JobProgress, entries: Sequence[Entry], kwargs: Mapping[str, Any] | None = None) -> None:
        """Claim the ticks of ``entries``, and run those that are granted; until then they count as running.

        kwargs: as in ``Request``.
        """
        ticks = [entry.tick for entry in entries if isinstance(entry, Claim)]
        if ticks:
            progress.running += 1
            self._ticks.update(ticks)
        on_done = functools.partial(self._claimed, progress, entries, ticks, progress.settled_until, kwargs)
        self._claims.add(self._writer.claim(entries, on_done))

    def _claimed(
        self,
        progress: JobProgress,
        entries: Sequence[Entry],
        ticks: Sequence[Tick],
        settled_before: datetime | None,
        kwargs: Mapping[str, Any] | None,
        claim: asyncio.Future[list[bool]],
    ) -> None:
        self._claims.discard(claim)
        granted: list[Tick] = []
        answers: list[bool] = []  # none if nothing could be written; the scheduler has been informed
        error = claim.exception()
        if error is None:
            answers = claim.result()
            written = [entry for entry, yes in zip(entries, answers, strict=True) if yes]
            granted = [entry.tick for entry in written if isinstance(entry, Claim)]
            for entry in written:
                if isinstance(entry, Skip):  # told only now: without an answer they are decided again
                    self._reporter.skipped(entry)
        else:
            for entry in entries:
                self._asked.pop(entry.tick.request if isinstance(entry, Claim) else entry.request, None)  # type: ignore[union-attr]
            if not isinstance(error, StaleTermError):
                self._unanswered.update(ticks)
        if not any(answers):
            progress.take_back(settled_before)  # the ticks may still be owed; the next plan reads the ledger
            if error is None:
                self._on_refused(progress.job.id)
        if not granted:
            self._ended(progress, ticks)
        else:
            self._run_in_turn(progress, _with_kwargs(progress.job, kwargs), granted, ticks)

    def _run_in_turn(self, progress: JobProgress, job: Job, granted: Sequence[Tick], ticks: Sequence[Tick]) -> None:
        """Run ticks that were granted, if necessary after a running one has ended; see ``Overlap``."""
        if progress.running <= job.max_instances:
            begun = self._attempts.begin(job, granted[0])
            self._spawn(progress, self._run_all(job, granted, begun=begun), ticks)
            return
        progress.running -= 1  # it waits
        progress.waiting += (functools.partial(self._begin_queued, progress, job, granted, ticks),)
        if job.overlap is Overlap.CANCEL_RUNNING:
            self._attempts.cancel_oldest(job.id)

    def _begin_queued(self, progress: JobProgress, job: Job, granted: Sequence[Tick], ticks: Sequence[Tick]) -> None:
        progress.running += 1
        self._spawn(progress, self._run_all(job, granted, queued=True), ticks)

    def _ended(self, progress: JobProgress, ticks: Sequence[Tick]) -> None:
        if ticks:
            progress.running -= 1
            self._ticks.difference_update(ticks)
            if progress.waiting and progress.running < progress.job.max_instances:
                begin, *rest = progress.waiting
                progress.waiting = tuple(rest)
                begin()
        if not progress.active:
            self._on_idle(progress)

    def _spawn(self, progress: JobProgress, run: Coroutine[Any, Any, None], ticks: Sequence[Tick]) -> None:
        context = self._context.copy()  # entered: a task factory of the application may take no context
        task = context.run(asyncio.get_running_loop().create_task, run, name=progress.job.id)
        self._tasks[task] = progress.job
        task.add_done_callback(functools.partial(self._task_ended, progress, ticks))

    def _task_ended(self, progress: JobProgress, ticks: Sequence[Tick], task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._ended(progress, ticks)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(
                "job %s: the run could not be carried through",
                progress.job.id,
                exc_info=error,
                extra=named("run_crashed"),
            )

    async def _run_all(
        self, job: Job, ticks: Sequence[Tick], *, queued: bool = False, begun: Attempt | None = None
    ) -> None:
        """Run ticks one after the other; ``begun`` is an attempt at the first."""
        for place, tick in enumerate(ticks):
            try:
                await self._attempts.run(job, tick, queued=queued, begun=None if place else begun)
            except asyncio.CancelledError:
                for left in ticks[place + 1 :]:
                    self._attempts.interrupted(job, left, TERM_OVER)
                raise


def _with_kwargs(job: Job, kwargs: Mapping[str, Any] | None) -> Job:
    """The job with the arguments of a request."""
    return replace(job, kwargs={**job.kwargs, **kwargs}) if kwargs else job


def _due(entry: Entry) -> datetime:
    return entry.tick.due if isinstance(entry, Claim) else entry.first_due  # type: ignore[union-attr]
