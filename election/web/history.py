"""``GET /leader/jobs``, ``/leader/runs``, ``/leader/skips``, ``/leader/terms``, ``/leader/changes``, ``/leader/next``.

In pages, from any worker.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Annotated, TypeVar

from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import AwareDatetime

from election.core.errors import LedgerError, LedgerVersionError
from election.core.threads import run_in_thread
from election.schedule.history import MAX_RUNNING, RunRow, by_job
from election.schedule.ledger_reader import MAX_INTEGER
from election.schedule.model import JobState
from election.schedule.upcoming import PlannedJobs

from . import models
from .view import PoolView

_T = TypeVar("_T")

Before = Annotated[int | None, Query(ge=0, le=MAX_INTEGER, description="the `next` of the page before this one")]
After = Annotated[str, Query(max_length=500, description="the `next` of the page before this one")]
Search = Annotated[str, Query(max_length=255, description="only those whose id or name contains this")]
Number = Annotated[int, Path(ge=1, le=MAX_INTEGER)]
Limit = Annotated[int, Query(ge=1, le=1000, description="entries a page")]
Tag = Annotated[str | None, Query(max_length=50, description="only those of jobs with this tag")]
Until = Annotated[AwareDatetime | None, Query(description="only ticks due up to this time, which has an offset")]
Each = Annotated[int | None, Query(ge=1, le=1000, description="so many ticks of each job at most")]
JobId = Annotated[str | None, Query(alias="job", max_length=500, description="only this job's")]


def history_routes(view: PoolView) -> APIRouter:
    """The routes that read the history."""
    router = APIRouter(responses=models.UNAVAILABLE)

    @router.get("/leader/jobs")
    async def read_jobs(
        search: Search = "", tag: Tag = None, job_id: JobId = None, after: After = "", limit: Limit = 100
    ) -> models.Jobs:
        """Jobs that the ledger knows, by id; those that have left the code are not among them."""
        if job_id is None:
            found = await asked(view.ledger.search_jobs(text=search, tag=tag, after=after, limit=limit))
        else:
            found = [job for job in await asked(view.ledger.find_jobs([job_id])) if not job.removed]
        jobs = [job for job in found if not job.retired_at]
        running = by_job(await asked(view.ledger.runs(outcome="running", limit=MAX_RUNNING)))
        last = await asked(view.ledger.last_outcomes([job.id for job in jobs]))
        entries = await run_in_thread(lambda: _listed(view, jobs, running, last))
        return models.Jobs(jobs=entries, next=found[-1].id if job_id is None and len(found) == limit else None)

    @router.get("/leader/runs")
    async def read_runs(
        job_id: JobId = None,
        tag: Tag = None,
        outcome: models.RunState | None = None,
        before: Before = None,
        limit: Limit = 100,
    ) -> models.Runs:
        """Runs, latest first."""
        rows = await asked(view.ledger.runs(job_id=job_id, tag=tag, outcome=outcome, before=before, limit=limit))
        entries = [_run_entry(row) for row in rows]
        return models.Runs(runs=entries, next=rows[-1].seq if len(rows) == limit else None)

    @router.get("/leader/runs/{seq}", responses=models.MISSING)
    async def read_run(seq: Number) -> models.RunDocument:
        """One run, with the traceback and the log lines of its attempts."""
        row = await asked(view.ledger.run(seq))
        if row is None:
            raise HTTPException(404, f"there is no run {seq}, or it has been pruned")
        entry = _run_entry(row)
        logs = await asked(view.ledger.logs(seq))
        entries = [models.LogEntry.model_validate(log, from_attributes=True) for log in logs]
        return models.RunDocument(**entry.model_dump(), logs=entries)

    @router.get("/leader/requests/{number}", responses=models.MISSING)
    async def read_request(number: Number) -> models.RequestEntry:
        """Outcome of a request: of ``POST /leader/jobs/{id}/run``, say."""
        row = await asked(view.ledger.request_row(number))
        if row is None:
            raise HTTPException(404, f"there is no request {number}, or it has been pruned")
        return models.RequestEntry.model_validate(row, from_attributes=True)

    @router.get("/leader/skips")
    async def read_skips(
        job_id: JobId = None, tag: Tag = None, before: Before = None, limit: Limit = 100
    ) -> models.Skips:
        """Ticks that had no run, and why, latest first."""
        rows = await asked(view.ledger.skips(job_id=job_id, tag=tag, before=before, limit=limit))
        entries = [models.SkipEntry.model_validate(row, from_attributes=True) for row in rows]
        return models.Skips(skips=entries, next=rows[-1].seq if len(rows) == limit else None)

    @router.get("/leader/changes")
    async def read_changes(job_id: JobId = None, before: Before = None, limit: Limit = 100) -> models.Changes:
        """Changes and who made them, latest first."""
        rows = await asked(view.ledger.audit_trail(job_id=job_id, before=before, limit=limit))
        entries = [models.ChangeEntry.model_validate(row, from_attributes=True) for row in rows]
        return models.Changes(changes=entries, next=rows[-1].seq if len(rows) == limit else None)

    @router.get("/leader/terms")
    async def read_terms(before: Before = None, limit: Limit = 100) -> models.Terms:
        """Terms, latest first."""
        rows = await asked(view.ledger.terms(before=before, limit=limit))
        entries = [models.TermEntry.model_validate(row, from_attributes=True) for row in rows]
        return models.Terms(terms=entries, next=rows[-1].term if len(rows) == limit else None)

    @router.get("/leader/next")
    async def read_next(
        job_id: JobId = None, until: Until = None, each: Each = None, limit: Limit = 10
    ) -> models.Upcoming:
        """Coming ticks, earliest first; of many jobs that were added at run time, of the ``limit`` due soonest."""
        jobs = await asked(view.ledger.due_soonest(limit, job_id))
        now = view.clock.now()

        def read() -> models.Upcoming:
            planned = PlannedJobs(jobs)
            ticks = planned.coming_ticks(now=now, until=until, each=each, limit=limit)
            entries = [models.ComingTickEntry.model_validate(tick, from_attributes=True) for tick in ticks]
            return models.Upcoming(ticks=entries, unknown=planned.unknown_triggers(), remarks=planned.remarks(now))

        return await run_in_thread(read)  # ten thousand jobs take a while, and a trigger may search for long

    return router


def _listed(
    view: PoolView, jobs: list[JobState], running: Mapping[str, Sequence[RunRow]], last: Mapping[str, RunRow]
) -> list[models.ListedJob]:
    entries = zip(jobs, view.entries(jobs, running), strict=True)
    return [
        models.ListedJob.model_construct(
            **dict(entry),
            last_run=_run_entry(last[job.id]) if job.id in last else None,
        )
        for job, entry in entries
    ]


def _run_entry(row: RunRow) -> models.RunEntry:
    return models.RunEntry.model_validate(row, from_attributes=True)


async def asked(question: Awaitable[_T]) -> _T:
    """Return the ledger's answer; raise 503 with the reason while the ledger cannot be used."""
    try:
        return await question
    except (LedgerError, LedgerVersionError) as error:
        raise HTTPException(503, detail=str(error), headers={"Retry-After": "1"}) from error
