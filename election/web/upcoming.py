"""``GET /leader/next``: the coming ticks of all jobs, from any worker."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from election.core.threads import run_in_thread
from election.schedule.upcoming import coming_ticks, remarks, unknown_triggers

from . import models
from .history import JobId, Limit, asked
from .view import PoolView

Until = Annotated[AwareDatetime | None, Query(description="only ticks due up to this time, which has an offset")]


def upcoming_routes(view: PoolView) -> APIRouter:
    """The route that reads what comes next."""
    router = APIRouter(responses=models.UNAVAILABLE)

    @router.get("/leader/next")
    async def read_next(job_id: JobId = None, until: Until = None, limit: Limit = 10) -> models.Upcoming:
        """Coming ticks, earliest first; of many jobs that were added at run time, of the ``limit`` due soonest."""
        jobs = await asked(view.ledger.due_soonest(limit, job_id))
        now = view.clock.now()

        def read() -> models.Upcoming:
            ticks = coming_ticks(jobs, now=now, until=until, limit=limit)
            entries = [models.ComingTickEntry.model_validate(tick, from_attributes=True) for tick in ticks]
            return models.Upcoming(ticks=entries, unknown=unknown_triggers(jobs), remarks=remarks(jobs, now))

        return await run_in_thread(read)  # ten thousand jobs take a while, and a trigger may search for long

    return router
