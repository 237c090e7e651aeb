"""Jobs of a term: the progress of each, and which of them cannot be run.

Jobs are planned in slices, urgent ones first, so that the event loop stays responsive with any number of jobs.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable, Mapping, Set
from dataclasses import replace
from datetime import UTC, datetime

from election.core.clock import Clock

from .commands import FinishJob, MarkBroken, SetNextDue
from .imports import ModuleImports
from .jobs import Job, JobRegistry
from .ledger_writer import LedgerWriter
from .model import Copied, JobState, State
from .plan import Plan, describe_broken
from .progress import BrokenJobs, JobProgress, log_broken
from .scheduler_adapter import SchedulerAdapter

SLICE = 25
"""Jobs that are planned in one turn of the event loop: some milliseconds."""

_LAST = datetime.max.replace(tzinfo=UTC)


class TermJobs:
    """Keeps the progress of each job that the term runs, in step with the state of the ledger.

    Args:
        registry: Jobs of the code.
        adapter: Scheduler of the term.
        writer: Writer of the term.
        clock: Time of ticks and waits.
        find_jobs: Reads jobs of the ledger by id.
    """

    def __init__(
        self,
        registry: JobRegistry,
        adapter: SchedulerAdapter,
        writer: LedgerWriter,
        clock: Clock,
        find_jobs: Callable[[list[str]], Awaitable[list[JobState]]],
    ) -> None:
        self.progress: dict[str, JobProgress] = {}
        """By id. The executor and the scheduler share it."""
        self.loaded: set[str] = set()
        """Ids of the jobs that the pool has and that this process can run."""
        self.kept: list[str] = []
        """Ids of the jobs that are not in the leader's code, and not retired yet."""
        self.broken = BrokenJobs(clock)
        self.pending: dict[str, JobState | None] = {}
        """Jobs that are to be planned, in this order, by id; None for one that must be read first."""
        self.imports = ModuleImports(clock)
        self._late: dict[str, str] = {}
        """Functions whose modules are being imported, by the ids of jobs that are planned after that."""
        self._copied: Copied | None = None
        self._registry = registry
        self._adapter = adapter
        self._writer = writer
        self._clock = clock
        self._find_jobs = find_jobs

    async def take(self, state: State) -> State:
        """Take a state that was read from the ledger, and return the part of it to be planned now.

        The part has each job with an open run or request, and the first of the others: those of the code, the most
        frequent first, then those that were added at run time, the next due first. ``next_slice`` returns the rest.
        Earlier reads of the same jobs are discarded.
        """
        self._copied = state.copied
        code = self._registry
        if taken := sorted(job_id for job_id in state.rest if job_id in code):  # added at run time, and now in the code
            rest = [job_id for job_id in state.rest if job_id not in code]
            state = replace(state, jobs=[*state.jobs, *await self._find_jobs(taken)], rest=rest)
        if state.about is None:
            self._begin_anew()
            if self.progress:
                self._keep_only({*(job.id for job in code), *state.rest, *(found.id for found in state.jobs)})
        for found in state.jobs:
            self.pending.pop(found.id, None)
        urgent = {run.tick.job_id for run in state.open_runs}
        urgent |= {request.job_id for request in state.requests if request.job_id is not None}
        of_code = {found.id: found for found in state.jobs if found.stored is None or found.id in code}
        stored = {found.id: found for found in state.jobs if found.id not in of_code}
        wanted: dict[str, JobState | None] = {found.id: found for found in state.jobs if found.id in urgent}
        known = of_code.keys() | self.loaded
        wanted |= {job_id: None for job_id in urgent if job_id in code and job_id not in known}  # never seen before
        at_once = SLICE + len(wanted)
        most_frequent = sorted(of_code.values(), key=lambda found: found.settled_until, reverse=True)
        next_due = sorted(stored.values(), key=lambda found: found.next_due or _LAST)
        wanted |= {found.id: found for found in most_frequent}
        if state.about is None:
            wanted |= {job.id: None for job in code if job.id not in of_code}  # never seen before
        wanted |= {found.id: found for found in next_due}
        wanted |= dict.fromkeys(state.rest)
        first = dict(itertools.islice(wanted.items(), at_once))
        self.pending |= {job_id: found for job_id, found in wanted.items() if job_id not in first}
        return await self._without_late(self._slice(state, first))

    @property
    def unplanned(self) -> Set[str]:
        """Ids of the jobs that are still to be planned."""
        return self.pending.keys() | self._late.keys()

    async def plan_again(self, peers_differ: Callable[[], Awaitable[bool]]) -> bool:
        """Plan jobs anew: broken ones that are due for another try, those that were kept for a deploy that is over, and
        those whose modules have been imported.

        They are read and planned in slices. Returns whether there are any.
        """
        if self.pending:
            return False
        has_imported = self.imports.ended.is_set()
        self.imports.ended.clear()
        if ready := [job_id for job_id, func in self._late.items() if not self.imports.is_under_way(func)]:
            for job_id in ready:
                del self._late[job_id]
            self.pending |= dict.fromkeys(ready)
        elif has_imported or self.broken.is_due():
            self.imports.forget_failures()
            self.pending |= dict.fromkeys(self.broken.retry())
        elif self.kept and not await peers_differ():
            self.pending |= dict.fromkeys(self.kept)
        return bool(self.pending)

    async def _read(self, some: dict[str, JobState | None]) -> State:
        """Return a slice, after reading the jobs in it that were not read yet."""
        unread = [job_id for job_id, found in some.items() if found is None]
        if unread:
            some |= {found.id: found for found in await self._find_jobs(unread) if not found.removed}
        return self._slice(State([], [], [], self._copied), some)

    async def _without_late(self, part: State) -> State:
        """Leave out jobs whose modules are not imported yet, and import these; one with an open run is waited for."""
        stored = {found.id: found.stored for found in part.jobs if found.id not in self._registry and not found.removed}
        late = {job_id: job.func for job_id, job in stored.items() if job is not None and self.imports.begin(job.func)}
        if not late.keys().isdisjoint(run.tick.job_id for run in part.open_runs):
            await self.imports.wait()
            return part
        self._late = {job_id: func for job_id, func in self._late.items() if job_id not in _about(part)} | late
        jobs = [found for found in part.jobs if found.id not in late]
        return replace(part, jobs=jobs, about=_about(part) - late.keys())

    def _slice(self, state: State, some: Mapping[str, JobState | None]) -> State:
        jobs = [found for found in some.values() if found is not None]
        return replace(state, jobs=jobs, about=frozenset(some), rest=())

    async def next_slice(self) -> State | None:
        """Return the next jobs to be planned; None if there are no more."""
        if not self.pending:
            return None
        some = await self._read(dict(itertools.islice(self.pending.items(), SLICE)))
        for job_id in _about(some):
            self.pending.pop(job_id, None)
        return await self._without_late(some)

    def _begin_anew(self) -> None:
        self.pending.clear()
        self._late.clear()
        self.imports.forget_failures()
        self.broken.retry()
        self.kept = []

    def _keep_only(self, ids: Set[str]) -> None:
        """Drop the jobs that the pool no longer has."""
        self.loaded &= ids
        for job_id in self.progress.keys() - ids:
            self._drop(job_id)

    def update(self, jobs: Mapping[str, Job], state: State) -> None:
        """Take over the jobs that were loaded from a slice, and drop those that the ledger no longer has."""
        about = _about(state)
        self.loaded -= about
        self.loaded |= jobs.keys()
        for job_id in (about & self.progress.keys()) - jobs.keys():
            self._drop(job_id)
        for job in jobs.values():
            self.progress.setdefault(job.id, JobProgress(job)).job = job
        for found in state.jobs:
            if found.id in jobs:
                self.progress[found.id].stored = found.stored is not None and found.id not in self._registry
        self.forget_replaced(state)

    def forget_replaced(self, state: State) -> None:
        """Discard the progress of schedules that were replaced."""
        for found in state.jobs:
            if (progress := self.progress.get(found.id)) is not None:
                progress.replaced(found.scheduled_since)

    def hints(self, plan: Plan, state: State) -> list[SetNextDue]:
        """Return the next due times of a plan's jobs that were added at run time, where the ledger has others."""
        known = {found.id: found.next_due for found in state.jobs}
        starts = {job_id: due for job_id, (due, _) in plan.starts.items() if self.progress[job_id].stored}
        return [SetNextDue(job_id, due) for job_id, due in starts.items() if due != known[job_id]]

    def planned(self, plan: Plan, unloaded: Mapping[str, str], state: State) -> None:
        """Note the jobs that a plan leaves out.

        Args:
            plan: Plan for the jobs of ``state``.
            unloaded: Why jobs of ``state`` cannot be loaded, by id.
            state: State that the plan was made for.
        """
        about = _about(state)
        self.broken.planned(plan.broken | dict(unloaded), about)
        self.kept = [job_id for job_id in self.kept if job_id not in about] + plan.kept
        for entry in plan.entries:
            if isinstance(entry, MarkBroken) and entry.error is not None:
                log_broken(entry.job_id, entry.error)

    def follow(self, plan: Plan, jobs: Mapping[str, Job], state: State) -> None:
        """Hand over ticks according to a plan that has been written."""
        self.forget_replaced(state)  # ticks that replaced schedules have handed over while the plan was written
        here = self.progress.keys() & jobs.keys()  # a job whose last run has ended meanwhile has left
        for found in state.jobs:
            if found.id in here and (found.paused or found.resume_at is not None):
                self.progress[found.id].begun = True  # a start within a pause is no tick, also not later
        for job_id in here & plan.schedules.keys():
            self.progress[job_id].scheduled_since = plan.schedules[job_id]
        for job_id in here:
            self.progress[job_id].exhausted = plan.exhausted.get(job_id)
        starts = {job_id: start for job_id, start in plan.starts.items() if job_id in here}
        self._adapter.follow(starts, self.progress, among=_about(state))

    def _drop(self, job_id: str) -> None:
        """Hand over no more ticks of a job, and drop its progress if it does not run."""
        self._adapter.drop(self.progress[job_id])
        if not self.progress[job_id].running:
            del self.progress[job_id]

    def forget(self, job_id: str) -> None:
        """Drop a job that has left the pool; its progress only if no run of the job is active."""
        self.loaded.discard(job_id)
        progress = self.progress.get(job_id)
        if progress is not None and not progress.active:
            self._adapter.drop(progress)
            del self.progress[job_id]

    # --- what the scheduler and the executor report ------------------------------------------------------------------

    def on_broken(self, job_id: str, error: BaseException) -> None:
        """Leave out a job whose trigger raises; it is planned again after a while."""
        text = describe_broken(error)
        self.broken.add(job_id, text)
        log_broken(job_id, text)
        self._writer.append(MarkBroken(job_id, text))

    def on_exhausted(self, job_id: str) -> None:
        """Note that the last tick of a job was handed over."""
        self.progress[job_id].exhausted = self.progress[job_id].settled_until

    def on_moved(self, job_id: str, due: datetime) -> None:
        """Write down when a job that was added at run time is due next."""
        if self.progress[job_id].stored:
            self._writer.append(SetNextDue(job_id, due.astimezone(UTC)))

    def on_refused(self, job_id: str) -> None:
        """Plan a job anew after the next poll: its row may have been lost, or written by somebody else."""
        if job_id in self.loaded:
            self.pending.setdefault(job_id, None)

    def on_idle(self, progress: JobProgress) -> None:
        """Let a job that was added at run time leave the pool when its last run has ended; drop one that has left."""
        job_id = progress.job.id
        if job_id not in self.loaded:
            self.progress.pop(job_id, None)
            return
        since, until = progress.scheduled_since, progress.exhausted
        if progress.stored and since is not None and until is not None:
            finish = FinishJob(job_id, since, until, self._clock.now())
            self._writer.claim([finish], functools.partial(self._finished, progress, since))

    def finish_idle(self) -> None:
        """Let the jobs leave that could not when their last run ended, because the ledger could not be written."""
        for progress in list(self.progress.values()):
            if not progress.active:
                self.on_idle(progress)

    def _finished(self, progress: JobProgress, since: datetime, answer: asyncio.Future[list[bool]]) -> None:
        is_same = progress.scheduled_since == since  # another worker may have given the free id to a job of its own
        if is_same and answer.exception() is None and answer.result() == [True]:
            self.forget(progress.job.id)


def _about(state: State) -> frozenset[str]:
    assert state.about is not None, "only slices are planned"
    return state.about
