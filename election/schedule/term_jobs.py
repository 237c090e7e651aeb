"""Jobs of a term: which there are, how far each has come, and which cannot be run."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from datetime import datetime

from election.core.clock import Clock

from .jobs import Job, JobRegistry
from .ledger_writer import LedgerWriter
from .model import FinishJob, MarkBroken, State
from .plan import Plan, describe_broken
from .progress import BrokenJobs, JobProgress, log_broken
from .scheduler_adapter import SchedulerAdapter


class TermJobs:
    """Keeps the progress of each job that the term runs, in step with the state of the ledger.

    Args:
        registry: Jobs of the code.
        adapter: Scheduler of the term.
        writer: Writer of the term.
        clock: Time of ticks and waits.
    """

    def __init__(self, registry: JobRegistry, adapter: SchedulerAdapter, writer: LedgerWriter, clock: Clock) -> None:
        self.progress: dict[str, JobProgress] = {}
        """By id. The executor and the scheduler share it."""
        self.loaded: set[str] = set()
        """Ids of the jobs that the pool has and that this process can run."""
        self.kept: list[str] = []
        """Ids of the jobs that are not in the leader's code, and not retired yet."""
        self.broken = BrokenJobs(clock)
        self._registry = registry
        self._adapter = adapter
        self._writer = writer
        self._clock = clock

    def update(self, jobs: Mapping[str, Job], state: State) -> None:
        """Take over the jobs that were loaded from a state, and drop those that it no longer has."""
        about = state.about
        if about is None:
            self.loaded.clear()
            about = frozenset(self.progress)
        self.loaded -= about
        self.loaded |= jobs.keys()
        for job_id in (about & self.progress.keys()) - jobs.keys():
            self._adapter.drop(self.progress[job_id])
            if not self.progress[job_id].running:
                del self.progress[job_id]
        for job in jobs.values():
            self.progress.setdefault(job.id, JobProgress(job)).job = job
        for found in state.jobs:
            if found.id in jobs:
                self.progress[found.id].stored = found.stored is not None and found.id not in self._registry
        self.forget_replaced(state)

    def forget_replaced(self, state: State) -> None:
        """Forget the ticks that were handed over by schedules that are replaced."""
        for found in state.jobs:
            if (progress := self.progress.get(found.id)) is not None:
                progress.replaced(found.scheduled_since)

    def planned(self, plan: Plan, unloaded: Mapping[str, str], state: State) -> None:
        """Note the jobs that a plan leaves out.

        Args:
            plan: Plan for the jobs of ``state``.
            unloaded: Why jobs of ``state`` cannot be loaded, by id.
            state: What the plan was made for.
        """
        about = state.about
        self.broken.planned(plan.broken | dict(unloaded), about)
        others = [] if about is None else [job_id for job_id in self.kept if job_id not in about]
        self.kept = others + plan.kept
        for entry in plan.entries:
            if isinstance(entry, MarkBroken) and entry.error is not None:
                log_broken(entry.job_id, entry.error)

    def follow(self, plan: Plan, jobs: Mapping[str, Job], state: State) -> None:
        """Hand over ticks as a plan says that is written down."""
        self.forget_replaced(state)  # ticks of theirs that were handed over while the plan was written
        for job_id, since in plan.schedules.items():
            self.progress[job_id].scheduled_since = since
        for job_id in jobs:
            self.progress[job_id].exhausted = plan.exhausted.get(job_id)
        self._adapter.follow(plan.starts, self.progress, among=state.about)

    def forget(self, job_id: str) -> None:
        """Forget a job that has left the pool."""
        self.loaded.discard(job_id)
        progress = self.progress.get(job_id)
        if progress is not None and not progress.active:
            self._adapter.drop(progress)
            del self.progress[job_id]

    # --- what the scheduler and the executor report ------------------------------------------------------------------

    def on_broken(self, job_id: str, error: Exception) -> None:
        """Leave out a job whose trigger raises; it is planned again after a while."""
        text = describe_broken(error)
        self.broken.add(job_id, text)
        log_broken(job_id, text)
        self._writer.append(MarkBroken(job_id, text))

    def on_exhausted(self, job_id: str) -> None:
        """Note that the last tick of a job was handed over."""
        self.progress[job_id].exhausted = self.progress[job_id].settled_until

    def on_idle(self, progress: JobProgress) -> None:
        """Let a job that was added at run time leave the pool when its last run has ended; forget one that has left."""
        job_id = progress.job.id
        if job_id not in self.loaded:
            self.progress.pop(job_id, None)
            return
        since, until = progress.scheduled_since, progress.exhausted
        if progress.stored and since is not None and until is not None:
            finish = FinishJob(job_id, since, until, self._clock.now())
            self._writer.claim([finish], functools.partial(self._finished, progress, since))

    def _finished(self, progress: JobProgress, since: datetime, answer: asyncio.Future[list[bool]]) -> None:
        is_same = progress.scheduled_since == since  # another worker may have given the free id to a job of its own
        if is_same and answer.exception() is None and answer.result() == [True]:
            self.forget(progress.job.id)
