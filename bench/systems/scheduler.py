"""APScheduler as the recipes start it: once somebody has decided that it should run here."""

from __future__ import annotations

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from bench.facts import tell

from .job import tick


def start() -> AsyncIOScheduler:
    """Started, with one job a second."""
    scheduler = AsyncIOScheduler()
    scheduler.add_job(tick, "cron", second="*", coalesce=True, max_instances=1)
    scheduler.start()
    tell("leads")
    return scheduler
