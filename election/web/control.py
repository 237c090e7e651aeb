"""Routes of those who may control, on any worker. Changes are written to the ledger; the leader carries them out.

These routes exist with ``$ELECTION_ADMIN_TOKEN`` or a dependency of the application; ``guard.py`` decides who may use
them. Each change is recorded with the identity that the guard returns.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Query

from election.core.errors import JobDefinitionError, UnknownJobError
from election.schedule.model import Action

from . import models
from .history import Number, asked
from .view import PoolView

_T = TypeVar("_T")


OneTag = Annotated[str, Query(max_length=50, description="all jobs with this tag")]


def control_routes(view: PoolView, guard: Callable[..., Awaitable[str]]) -> APIRouter:
    """The routes that change something, behind ``guard``, a dependency that returns the identity to record."""

    identity = Depends(guard)
    router = APIRouter(dependencies=[identity], responses=models.REFUSED | models.UNAVAILABLE)

    @router.get("/leader/control", status_code=204, response_model=None)
    async def check_permission() -> None:
        """Whether the caller may control: 204, and 401 or 403 if not."""

    @router.get("/leader/jobs/{job_id:path}/arguments")
    async def read_arguments(job_id: str) -> models.Arguments:
        """Arguments of a job's runs."""
        found = [job for job in await asked(view.ledger.find_jobs([job_id])) if not job.removed]
        if not found:
            raise HTTPException(404, f"there is no job {job_id!r}")
        return models.Arguments(arguments=view.arguments(found[0]))

    @router.post("/leader/resign", status_code=202)
    async def resign(by: str = identity) -> models.Accepted:
        """Ask the leader to give the seat up in good order."""
        seen = await view.seat.observe()
        if not seen.led or seen.record is None:
            raise HTTPException(503, "nobody leads, so nobody can resign", {"Retry-After": "1"})
        asked = view.ledger.request(Action.RESIGN, term=seen.record.term, by=by)
        return models.Accepted(request=await _answered(asked))

    @router.post("/leader/jobs/{job_id:path}/run", status_code=202)
    async def run_job(job_id: str, arguments: models.RunArguments | None = None, by: str = identity) -> models.Accepted:
        """Run a job now, besides its schedule, with the arguments in the body in the place of its own."""
        kwargs = {} if arguments is None else arguments.kwargs
        try:
            is_known = view.check_run(job_id, kwargs)
        except JobDefinitionError as error:
            raise HTTPException(422, str(error)) from error
        asked = view.ledger.request(Action.RUN, job_id=job_id, kwargs=kwargs or None, is_known=is_known, by=by)
        return models.Accepted(request=await _answered(asked))

    @router.post("/leader/runs/{seq}/cancel", status_code=202, responses=models.MISSING)
    async def cancel_run(seq: Number, by: str = identity) -> models.Accepted:
        """Cancel a run that has not ended; a thread cannot be stopped, which the request's outcome says."""
        run = await asked(view.ledger.run(seq))
        if run is None:
            raise HTTPException(404, f"there is no run {seq}, or it has been pruned")
        return models.Accepted(request=await _answered(view.ledger.request_cancellation(run, by=by)))

    @router.post("/leader/jobs/{job_id:path}/pause", status_code=202)
    async def pause_job(job_id: str, by: str = identity) -> models.Accepted:
        """Let a job's ticks pass, until it is resumed; a restart does not change that."""
        await _answered(view.ledger.pause(job_id, True, by=by))
        return models.Accepted(request=None)

    @router.post("/leader/jobs/{job_id:path}/resume", status_code=202)
    async def resume_job(job_id: str, by: str = identity) -> models.Accepted:
        """End a pause; what fell due meanwhile is skipped as ``paused``."""
        await _answered(view.ledger.pause(job_id, False, by=by))
        return models.Accepted(request=None)

    @router.post("/leader/jobs/pause", status_code=202)
    async def pause_tagged(tag: OneTag, by: str = identity) -> models.ChangedJobs:
        """Pause all jobs that have a tag now."""
        return models.ChangedJobs(jobs=await _answered(view.ledger.pause_tagged(tag, True, by=by)))

    @router.post("/leader/jobs/resume", status_code=202)
    async def resume_tagged(tag: OneTag, by: str = identity) -> models.ChangedJobs:
        """End the pauses of all jobs that have a tag now."""
        return models.ChangedJobs(jobs=await _answered(view.ledger.pause_tagged(tag, False, by=by)))

    return router


async def _answered(request: Awaitable[_T]) -> _T:
    try:
        return await asked(request)
    except UnknownJobError as error:
        raise HTTPException(404, str(error)) from error
