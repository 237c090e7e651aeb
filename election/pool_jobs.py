"""``election.jobs``: the pool's jobs, from any worker and from a script that takes no part."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from apscheduler.triggers.base import BaseTrigger

from .core.clock import Clock, yield_to_loop
from .core.errors import JobDefinitionError, UnknownJobError
from .core.numbers import to_count
from .core.threads import run_in_thread
from .operation import LedgerAccess, Operation
from .requested_run import RequestedRun, cancel_run
from .schedule.history import MAX_RUNNING, AuditRow, RunRow, SkipRow, by_job
from .schedule.jobs import JobRegistry
from .schedule.ledger import Ledger
from .schedule.ledger_reader import MAX_INTEGER, fits
from .schedule.model import Action, JobState, NewJob, StoredJob
from .schedule.stored import check_run, modified, parse_if_exists, reset, to_new_job
from .schedule.upcoming import ComingTick, PlannedJobs
from .web.models import JobEntry
from .web.view import PoolView

MAX_COMING = 100_000
"""Coming ticks that one call computes at most: some seconds in one of the election's few threads."""

JOBS_PER_TURN = 20
"""Jobs of ``add_many`` that are checked in one turn of the event loop: some milliseconds."""


@dataclass(frozen=True, slots=True)
class PoolJob:
    """A job of the pool: the fields of ``GET /leader/jobs``, and how it was added.

    stored: function (``func``), ``kwargs`` and other arguments (``options``) of a job that was added at run time; None
        for one of the code.
    """

    id: str
    name: str
    description: str | None
    tags: Sequence[str]
    trigger: str
    timezone: str | None
    next_run_time: datetime | None
    paused: bool
    broken: str | None
    running: int
    running_since: datetime | None
    stored: StoredJob | None


class PoolJobs:
    """The jobs of a pool, of the code and added at run time, from any worker.

    Each method returns an ``Operation``: ``await`` it in a coroutine, call ``.result()`` of it in a thread (a ``def``
    endpoint, a plain job, a Django view) or in a script. Each raises ``LedgerError`` while the ledger is out of reach.
    Each change takes ``by``, the identity that the audit trail records: by default this process.

    Args:
        registry: Jobs of the code.
        view: Describes jobs.
        access: Reaches the ledger.
        clock: Time of coming ticks.
    """

    def __init__(self, registry: JobRegistry, view: PoolView, access: LedgerAccess, clock: Clock) -> None:
        self._registry = registry
        self._view = view
        self._access = access
        self._clock = clock

    # --- reads --------------------------------------------------------------------------------------------------------

    def list(self, *, search: str = "", tag: str | None = None) -> Operation[builtins.list[PoolJob]]:
        """All jobs: those of the ledger by id, then those of this code that no leader has seen yet.

        Args:
            search: Only jobs whose id or name contains this, in upper or lower case.
            tag: Only jobs that have this tag.
        """

        async def read(ledger: Ledger) -> builtins.list[PoolJob]:
            found = await ledger.search_jobs(text=search, tag=tag, limit=MAX_INTEGER)
            known, here = {job.id for job in found}, [job for job in found if not job.retired_at]
            ours = [job for job in self._registry if job.id not in known and fits(job.id, job.info, search, tag)]
            seen = {job.id for job in await ledger.find_jobs([job.id for job in ours]) if not job.retired_at}
            return await self._described(ledger, [*here, *(job.id for job in ours if job.id not in seen)])

        return self._access.perform(read, "jobs.list()")

    def get(self, id: str) -> Operation[PoolJob]:  # noqa: A002
        """The job with this id. Raises ``UnknownJobError``."""

        async def read(ledger: Ledger) -> PoolJob:
            found = next(iter(await ledger.find_jobs([id])), None)
            if found is not None and not found.removed and not found.retired_at:
                return (await self._described(ledger, [found]))[0]
            if id in self._registry:
                return (await self._described(ledger, [id]))[0]
            raise UnknownJobError(f"there is no job {id!r} in this pool")

        return self._access.perform(read, f"jobs.get({id!r})")

    def next(
        self,
        id: str | None = None,  # noqa: A002
        *,
        until: datetime | None = None,
        limit: int = 10,
    ) -> Operation[builtins.list[ComingTick]]:
        """Coming ticks, earliest first.

        Args:
            id: Only this job's.
            until: Only those due up to this time, which has an offset.
            limit: How many at most, up to ``MAX_COMING``; of many jobs that were added at run time, only as many are
                planned.
        """
        most = min(to_count(limit, "limit", at_least=0), MAX_COMING)

        async def read(ledger: Ledger) -> builtins.list[ComingTick]:
            jobs, now = await ledger.due_soonest(most, id), self._clock.now()
            return await run_in_thread(lambda: PlannedJobs(jobs).coming_ticks(now=now, until=until, limit=most))

        return self._access.perform(read, "jobs.next()")

    def runs(
        self,
        id: str | None = None,  # noqa: A002
        *,
        outcome: Literal["running", "succeeded", "failed", "interrupted"] | None = None,
        tag: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> Operation[builtins.list[RunRow]]:
        """Runs, latest first.

        Args:
            id: Only this job's.
            outcome: Only those with this outcome; ``running`` for those that run.
            tag: Only those of jobs with this tag.
            before: Only those with a smaller ``seq``, for the next page.
            limit: How many at most.
        """

        async def read(ledger: Ledger) -> builtins.list[RunRow]:
            return await ledger.runs(job_id=id, tag=tag, outcome=outcome, before=before, limit=limit)

        return self._access.perform(read, "jobs.runs()")

    def skips(
        self,
        id: str | None = None,  # noqa: A002
        *,
        tag: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> Operation[builtins.list[SkipRow]]:
        """Ticks that had no run, and why, latest first; the arguments are those of ``runs``."""

        async def read(ledger: Ledger) -> builtins.list[SkipRow]:
            return await ledger.skips(job_id=id, tag=tag, before=before, limit=limit)

        return self._access.perform(read, "jobs.skips()")

    def changes(
        self,
        id: str | None = None,  # noqa: A002
        *,
        before: int | None = None,
        limit: int = 100,
    ) -> Operation[builtins.list[AuditRow]]:
        """Changes and who made them, latest first; the arguments are those of ``runs``."""

        async def read(ledger: Ledger) -> builtins.list[AuditRow]:
            return await ledger.audit_trail(job_id=id, before=before, limit=limit)

        return self._access.perform(read, "jobs.changes()")

    # --- changes ------------------------------------------------------------------------------------------------------

    def add(
        self,
        func: Callable[..., Any] | str,
        trigger: str | BaseTrigger,
        *,
        id: str | None = None,  # noqa: A002
        if_exists: Literal["error", "keep", "replace"] = "error",
        by: str | None = None,
        **arguments: Any,
    ) -> Operation[None]:
        """Store a job, which survives restarts; the arguments and errors are those of ``Election.add_job``.

        A job that no process could run raises at once; an id that is taken raises when this is awaited.
        """
        exists = parse_if_exists(if_exists)
        job = to_new_job(self._registry, func, trigger, id=id, **arguments)
        return self._access.perform(
            lambda ledger: ledger.store_jobs([job], if_exists=exists, by=by), f"add_job(…, id={id!r})"
        )

    def add_many(
        self,
        jobs: Iterable[Mapping[str, Any]],
        *,
        if_exists: Literal["error", "keep", "replace"] = "error",
        by: str | None = None,
    ) -> Operation[None]:
        """Store many jobs: some ten times as fast as one by one.

        Args:
            jobs: For each the arguments of ``add_job`` by name: ``{"func": …, "trigger": …, "id": …}``.
            if_exists: As with ``Election.add_job``, for all of them.
            by: Who adds them, for the audit trail.

        Raises:
            JobDefinitionError: One of them cannot be run by another process, or lacks an argument, or two have the same
                id; then none is added. Or an id is taken: those before it may have been added.
            LedgerError: They cannot be stored; a part of them may have been. With ``"replace"`` or ``"keep"`` the call
                can be repeated.
        """
        exists = parse_if_exists(if_exists)

        async def add(ledger: Ledger) -> None:
            await ledger.store_jobs(await self._checked(jobs), if_exists=exists, by=by)

        return self._access.perform(add, "add_jobs(…)")

    def modify(
        self,
        id: str,  # noqa: A002
        trigger: str | BaseTrigger | None = None,
        *,
        by: str | None = None,
        **changes: Any,
    ) -> Operation[None]:
        """Change a job; arguments that are not given stay as they are.

        Args:
            id: The job's id.
            trigger: Its trigger from now on; None keeps the present one, and the ticks that it owes. For a job of the
                code it holds until the trigger in the code changes, also after restarts; see ``reset_trigger``.
            by: Who changes it, for the audit trail.
            changes: Arguments of ``add_job``: those of the new trigger, and of a job that was added at run time
                ``func``, ``kwargs``, ``name``, …

        Raises:
            UnknownJobError: There is no such job.
            JobDefinitionError: The changes cannot work, or can only be made in the code.
        """

        async def change(ledger: Ledger) -> None:
            await ledger.modify_job(id, lambda found: modified(self._registry, found, trigger, changes), by=by)

        return self._access.perform(change, f"jobs.modify({id!r}, …)")

    def reschedule(self, id: str, trigger: str | BaseTrigger, **arguments: Any) -> Operation[None]:  # noqa: A002
        """Give a job another trigger, from now on. Raises as ``modify``."""
        return self.modify(id, trigger, **arguments)

    def reset_trigger(self, id: str, *, by: str | None = None) -> Operation[None]:  # noqa: A002
        """Give a job of the code its own trigger again. Raises ``UnknownJobError``, ``JobDefinitionError``."""
        return self._access.perform(lambda ledger: ledger.modify_job(id, reset, by=by), f"jobs.reset_trigger({id!r})")

    def remove(self, id: str, *, by: str | None = None) -> Operation[None]:  # noqa: A002
        """Remove a job that was added at run time; its history stays. Raises ``UnknownJobError``."""
        return self._access.perform(lambda ledger: ledger.remove_job(id, by=by), f"jobs.remove({id!r})")

    def pause(self, id: str, *, by: str | None = None) -> Operation[None]:  # noqa: A002
        """Skip a job's ticks until it is resumed, also after a restart. Raises ``UnknownJobError``."""
        return self._access.perform(lambda ledger: ledger.pause(id, True, by=by), f"jobs.pause({id!r})")

    def resume(self, id: str, *, by: str | None = None) -> Operation[None]:  # noqa: A002
        """End a pause; ticks that fell due meanwhile are skipped as ``paused``. Raises ``UnknownJobError``."""
        return self._access.perform(lambda ledger: ledger.pause(id, False, by=by), f"jobs.resume({id!r})")

    def pause_tagged(self, tag: str, *, by: str | None = None) -> Operation[builtins.list[str]]:
        """Pause all jobs that have a tag now; returns their ids. Raises ``UnknownJobError`` if there is none."""
        return self._access.perform(lambda ledger: ledger.pause_tagged(tag, True, by=by), f"jobs.pause_tagged({tag!r})")

    def resume_tagged(self, tag: str, *, by: str | None = None) -> Operation[builtins.list[str]]:
        """Resume all jobs that have a tag now; returns their ids. Raises ``UnknownJobError`` if there is none."""
        return self._access.perform(
            lambda ledger: ledger.pause_tagged(tag, False, by=by), f"jobs.resume_tagged({tag!r})"
        )

    def run_now(
        self,
        id: str,  # noqa: A002
        *,
        kwargs: Mapping[str, Any] | None = None,
        by: str | None = None,
    ) -> Operation[RequestedRun]:
        """Request a run of a job now, besides its schedule; the leader begins it within a heartbeat.

        Args:
            id: The job's id.
            kwargs: Arguments of this run, in place of the job's own arguments with these names; JSON.
            by: Who requests it, for the audit trail.

        Returns:
            The run: ``await run.result()`` waits for its end.

        Raises:
            UnknownJobError: There is no such job.
            JobDefinitionError: The arguments are no JSON, or the job does not take them.
        """
        given = dict(kwargs or {})
        is_known = check_run(self._registry, id, given)

        async def ask(ledger: Ledger) -> RequestedRun:
            number = await ledger.request(Action.RUN, job_id=id, kwargs=given or None, is_known=is_known, by=by)
            return RequestedRun(number, id, self._access, self._clock)

        return self._access.perform(ask, f"jobs.run_now({id!r})")

    def cancel(self, run: int | RunRow, *, by: str | None = None) -> Operation[None]:
        """Cancel a run that has not ended, for good: its coroutine is cancelled, and the outcome is ``interrupted``.

        Args:
            run: The run, or its number (``seq``).
            by: Who cancels it, for the audit trail.

        Raises:
            RunError: It cannot be cancelled: it has ended, has not begun, or its code runs in a thread.
            UnknownJobError: There is no such run.
        """
        number = run if isinstance(run, int) else run.seq

        async def ask(ledger: Ledger) -> None:
            found = await ledger.run(number)
            if found is None:
                raise UnknownJobError(f"there is no run {number}, or it has been pruned")
            await cancel_run(ledger, found, self._clock, by=by)

        return self._access.perform(ask, f"jobs.cancel({number})")

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _checked(self, jobs: Iterable[Mapping[str, Any]]) -> builtins.list[NewJob]:
        made: dict[str, NewJob] = {}
        for number, arguments in enumerate(jobs):
            if missing := {"func", "trigger", "id"} - arguments.keys():
                raise JobDefinitionError(f"job number {number} of add_jobs lacks {', '.join(sorted(missing))}")
            job = to_new_job(self._registry, **arguments)
            if job.id in made:
                raise JobDefinitionError(f"two jobs of add_jobs have the id {job.id!r}")
            made[job.id] = job
            if number % JOBS_PER_TURN == 0:
                await yield_to_loop()
        return builtins.list(made.values())

    async def _described(self, ledger: Ledger, jobs: builtins.list[JobState | str]) -> builtins.list[PoolJob]:
        """Describe jobs, given by their state in the ledger, or by the id of one that is not in the ledger yet."""
        running = by_job(await ledger.runs(outcome="running", limit=MAX_RUNNING))

        def describe() -> builtins.list[PoolJob]:
            entries = self._view.entries(jobs, running)
            return [_pool_job(entry, job) for entry, job in zip(entries, jobs, strict=True)]

        return await run_in_thread(describe)


def _pool_job(entry: JobEntry, job: JobState | str) -> PoolJob:
    return PoolJob(**entry.model_dump(), stored=None if isinstance(job, str) else job.stored)
