"""Jobs that are silent because a wall clock was ahead: their ticks are settled up to a time that has not come yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from .job_info import name_few
from .model import JobState

TOLERANCE = timedelta(seconds=5)
"""A clock may be put back by so much without a word: the jobs go on as soon as it has caught up."""


def settled_ahead(jobs: Iterable[JobState], now: datetime) -> dict[str, datetime]:
    """Return the jobs whose ticks are settled up to later than ``now``, and until when, by id."""
    return {job.id: job.settled_until for job in jobs if job.settled_until > now + TOLERANCE and not job.removed}


def describe_ahead(settled: Mapping[str, datetime], now: datetime) -> str | None:
    """Return why such jobs are silent and what to do; None if there are none any more."""
    left = {job_id: until for job_id, until in settled.items() if until > now + TOLERANCE}
    if not left:
        return None
    latest = max(left.values())
    return (
        f"jobs are silent until {latest:%Y-%m-%d %H:%M:%S} UTC, since the wall clock was ahead: their ticks are settled"
        f" up to then, and it is {now:%Y-%m-%d %H:%M:%S} now ({name_few(left)}); if this time is right, python -m"
        " election accept-time makes them go on"
    )
