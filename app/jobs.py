"""The jobs of the demonstration."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil

from election import Election, current_run

log = logging.getLogger("app")


def register(election: Election) -> None:
    """Give ``election`` the demonstration's jobs."""
    election.scheduled_job("cron", second="0-30", coalesce=True, max_instances=1, tags=["report"])(report)
    election.scheduled_job(
        "interval",
        minutes=1,
        name="free space",
        description="How much room is left on the disk.",
        tags=["host", "disk"],
    )(free_space)
    election.while_leading(tail)


async def report() -> None:
    """One line a second in seconds 0–30 of each minute, from one worker only."""
    run = current_run()
    log.info("report for %s (pid %d, term %d)", run.due.strftime("%H:%M:%S"), os.getpid(), run.term)


def free_space() -> None:
    """A plain function runs in a thread, so it may block."""
    log.info("%d MiB free in the working directory", shutil.disk_usage(".").free >> 20)


async def tail() -> None:
    """Runs for as long as this worker leads, as a consumer of a queue would."""
    log.info("while_leading: begins in pid %d", os.getpid())
    try:
        await asyncio.Event().wait()
    finally:
        log.info("while_leading: ends in pid %d", os.getpid())
