"""Runs the jobs of one term: claims each tick before it calls the function, settles the run after (P3, P4).

It knows at any time what still runs (P5). APScheduler's own executors do not: its ``shutdown(wait=True)`` neither
waits for coroutines nor for threads.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from apscheduler.executors.base import BaseExecutor

from election.core.clock import Clock, yield_to_loop
from election.core.events import named
from election.core.term import Term

from .attempts import Attempts
from .job_runner import JobRunner
from .jobs import Job
from .ledger_writer import LedgerWriter
from .model import Claim, Entry, OpenRun, Skip, SkipReason, Tick
from .options import Around
from .policy import decide, is_misfire
from .reporting import RunReporter

log = logging.getLogger("election")

GapFinder = Callable[[str, datetime], Skip | None]
"""The ticks of a job between what was last handed over and this due time that were leapt over, if any."""


class TermExecutor(BaseExecutor):  # type: ignore[misc]  # APScheduler 3 has no types
    """Runs what APScheduler finds due.

    jobs: by id; they may change while the term lasts.
    accounted: the last tick of each job that was handed over; kept up to date here.
    schedules: when the schedule of each job began by which it is handed over.
    gap: see ``GapFinder``.
    around: as in ``WorkOptions``.
    """

    def __init__(
        self,
        jobs: Mapping[str, Job],
        term: Term,
        books: LedgerWriter,
        clock: Clock,
        accounted: dict[str, datetime],
        schedules: Mapping[str, datetime],
        gap: GapFinder,
        teller: RunReporter,
        around: Sequence[Around] = (),
    ) -> None:
        super().__init__()
        self._jobs = jobs
        self._books = books
        self._clock = clock
        self._accounted = accounted
        self._schedules = schedules
        self._gap = gap
        self._teller = teller
        self._calls = JobRunner(ThreadPoolExecutor(thread_name_prefix="election-job"), clock)
        self._attempts = Attempts(term.number, books, clock, self._calls, teller, around)
        self._tasks: dict[asyncio.Task[None], Job] = {}
        self._count: Counter[str] = Counter()
        self._ticks: set[Tick] = set()
        self._asked: set[asyncio.Future[list[bool]]] = set()
        self._cancelled = False

    # --- what APScheduler calls -----------------------------------------------------------------------------------

    def submit_job(self, job: Any, run_times: list[datetime]) -> None:
        """Decide what becomes of the ticks that are due, and start what is to be run."""
        found, now = self._jobs[job.id], self._clock.now()
        dues = [due.astimezone(UTC) for due in run_times]
        gaps = {due: gap for due in dues if (gap := self._gap(found.id, due)) is not None}
        decision = decide(found, dues, now=now, running=self._count[found.id], gaps=list(gaps))
        scheduled_since = self._schedules.get(found.id)
        skips = [replace(skip, scheduled_since=scheduled_since) for skip in (*decision.skips, *gaps.values())]
        entries: list[Entry] = [Claim(Tick(found.id, due), now, scheduled_since) for due in decision.run]
        if skips:
            entries = sorted([*skips, *entries], key=_due)
            for skip in skips:
                self._teller.skipped(skip)
        self._start(found, entries)
        self._accounted[found.id] = dues[-1]

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        raise AssertionError("submit_job is replaced as a whole")

    def shutdown(self, wait: bool = True) -> None:
        """Called by APScheduler when all is done."""
        self._calls.close()

    # --- what the term calls --------------------------------------------------------------------------------------

    def run_now(self, job: Job, request: int, at: datetime) -> None:
        """Run a job because somebody asked for it; the request is the tick's identity."""
        tick = Tick(job.id, at, request)
        if tick in self._ticks:
            return
        if self._count[job.id] >= job.max_instances:
            skip = Skip(job.id, at, at, 1, SkipReason.OVERLAP, self._clock.now(), request=request)
            self._teller.skipped(skip)
            self._start(job, [skip])
        else:
            self._start(job, [Claim(tick, self._clock.now())])

    def rerun(self, job: Job, run: OpenRun) -> None:
        """Try a run again that a former leader left open; it is claimed already."""
        self._count[job.id] += 1
        self._ticks.add(run.tick)
        self._spawn(job, self._attempts.run(job, run.tick, run.attempt), [run.tick])

    def running(self) -> set[Tick]:
        """The ticks that are claimed, or about to be, and not settled."""
        return self._ticks

    def unfinished(self) -> list[str]:
        """The ids of the jobs whose code still runs."""
        return sorted({job.id for job in self._tasks.values()} | set(self._calls.in_threads()))

    def close(self) -> None:
        """No new attempts from now on."""
        self._attempts.close()

    def cancel(self) -> None:
        """Cancel what can be cancelled: coroutines. A thread cannot be stopped, and goes on counting as running."""
        self._cancelled = True
        self._calls.cancel_waiting()
        for task, job in self._tasks.items():
            if job.is_coroutine:
                task.cancel()

    async def wait(self) -> None:
        """Return when no job code runs."""
        while waited := self._awaited():
            await asyncio.wait(waited)
            await yield_to_loop()  # let the callbacks take out what has ended

    # --- inside ---------------------------------------------------------------------------------------------------

    def _awaited(self) -> list[asyncio.Future[Any]]:
        return [*self._asked, *self._tasks, *self._calls.futures()]

    def _start(self, job: Job, entries: Sequence[Entry]) -> None:
        """Ask for permission, and run what is granted; until then the ticks count as running."""
        ticks = [entry.tick for entry in entries if isinstance(entry, Claim)]
        if ticks:
            self._count[job.id] += 1
            self._ticks.update(ticks)
        before = self._accounted.get(job.id)
        self._asked.add(self._books.claim(entries, functools.partial(self._answered, job, entries, ticks, before)))

    def _answered(
        self,
        job: Job,
        entries: Sequence[Entry],
        ticks: Sequence[Tick],
        before: datetime | None,
        asked: asyncio.Future[list[bool]],
    ) -> None:
        self._asked.discard(asked)
        granted: list[Tick] = []
        answers: list[bool] = []  # none, if nothing could be written; who keeps the books has been told
        if asked.exception() is None:
            answers = asked.result()
            granted = [
                entry.tick for entry, yes in zip(entries, answers, strict=True) if yes and isinstance(entry, Claim)
            ]
        if not any(answers):
            self._take_back(job.id, before)  # owed still, for all that we know: the ledger knows better
        if not granted:
            self._ended(job, ticks)
        elif self._cancelled:
            self._ended(job, ticks)
            for tick in granted:
                self._attempts.interrupted(job, tick, "the term was over before it began")
        else:
            self._spawn(job, self._run_all(job, granted), ticks)

    def _take_back(self, job_id: str, before: datetime | None) -> None:
        if before is None:
            self._accounted.pop(job_id, None)
        elif job_id in self._accounted:
            self._accounted[job_id] = min(before, self._accounted[job_id])

    def _ended(self, job: Job, ticks: Sequence[Tick]) -> None:
        if ticks:
            self._count[job.id] -= 1
            self._ticks.difference_update(ticks)

    def _spawn(self, job: Job, run: Coroutine[Any, Any, None], ticks: Sequence[Tick]) -> None:
        task = asyncio.get_running_loop().create_task(run, name=job.id)
        self._tasks[task] = job
        task.add_done_callback(functools.partial(self._task_ended, job, ticks))

    def _task_ended(self, job: Job, ticks: Sequence[Tick], task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._ended(job, ticks)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(
                "job %s: the run could not be carried through", job.id, exc_info=error, extra=named("run_crashed")
            )

    async def _run_all(self, job: Job, ticks: Sequence[Tick]) -> None:
        for place, tick in enumerate(ticks):
            now = self._clock.now()
            if self._cancelled:
                self._attempts.interrupted(job, tick, "the term was over before it began")
            elif not tick.request and is_misfire(job, tick.due, now):  # it had to wait for the one before it
                skip = Skip(job.id, tick.due, tick.due, 1, SkipReason.MISFIRED, now, claimed=True)
                self._teller.skipped(skip)
                self._books.note(skip)
            else:
                try:
                    await self._attempts.run(job, tick)
                except asyncio.CancelledError:
                    for left in ticks[place + 1 :]:
                        self._attempts.interrupted(job, left, "the term was over before it began")
                    raise


def _due(entry: Entry) -> datetime:
    return entry.tick.due if isinstance(entry, Claim) else entry.first_due  # type: ignore[union-attr]
