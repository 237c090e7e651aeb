"""APScheduler as common recipes start it, in the worker that was chosen."""

from __future__ import annotations

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from bench.facts import tell

from .job import tick


def start() -> AsyncIOScheduler:
    """Start it, with one job a second."""
    scheduler = AsyncIOScheduler()
    scheduler.add_job(tick, "cron", second="*", coalesce=True, max_instances=1)
    scheduler.start()
    tell("leads")
    return scheduler
