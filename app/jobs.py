"""The jobs of the demonstration: decorators on functions, as in any application."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil

from election import Election, current_run

from .settings import Settings

log = logging.getLogger("app")

settings = Settings()
election = Election(settings.pool, drain_timeout=settings.drain_timeout, fence_after=settings.fence_after or None)


@election.scheduled_job("cron", second="0-30", coalesce=True, max_instances=1, tags=["report"])
async def report() -> None:
    """One line a second in seconds 0–30 of each minute, from one worker only."""
    run = current_run()
    log.info("report for %s (pid %d, term %d)", run.due.strftime("%H:%M:%S"), os.getpid(), run.term)


@election.scheduled_job(
    "interval", minutes=1, name="free space", description="How much room is left on the disk.", tags=["host", "disk"]
)
def free_space() -> None:
    """A plain function runs in a thread, so it may block."""
    log.info("%d MiB free in the working directory", shutil.disk_usage(".").free >> 20)


@election.while_leading
async def tail() -> None:
    """Runs for as long as this worker leads, as a consumer of a queue would."""
    log.info("while_leading: begins in pid %d", os.getpid())
    try:
        await asyncio.Event().wait()
    finally:
        log.info("while_leading: ends in pid %d", os.getpid())
