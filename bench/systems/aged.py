"""A pool with a long history, written by ``bench.ledger_size``, and all of its documents."""

from __future__ import annotations

import os

from bench.history import EVERY, JOBS, begins, job_id
from election import Election

from .serving import serving


async def job() -> None:
    """Do nothing."""


election = Election(os.environ["BENCH_STATE"], scheduler_options={"timezone": "UTC"})
for number in range(JOBS):
    election.scheduled_job(
        "interval", seconds=EVERY, start_date=begins(number), id=job_id(number), tags=["one"] if number == 0 else []
    )(job)


app = serving(lambda: election)
app.include_router(election.router)
app.include_router(election.metrics)
