"""Coming ticks of a pool's jobs in order, for ``election next`` and ``GET /leader/next``."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from itertools import islice

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger

from .lint import remarks_on
from .model import JobState
from .ticks import first_after, is_known, is_planned, without_jitter
from .triggers import build, jitter_of
from .wall_clock import next_change, offset_at

CHANGE_MARGIN = timedelta(hours=3)
"""A tick is marked if the clocks of its zone change this shortly before or after it; no change is larger."""


@dataclass(frozen=True, slots=True)
class ComingTick:
    """A tick that will fall due.

    due: UTC. local: the same in the job's zone, or in UTC if its trigger has none. timezone: name of that zone.
    jitter_s: seconds by which it may be later. clock_change: moment near it, in UTC, at which the clocks of the zone
    change. clock_change_s: by how many seconds they are put forward then.
    """

    job_id: str
    due: datetime
    local: datetime
    timezone: str | None
    jitter_s: float
    clock_change: datetime | None
    clock_change_s: float | None


class PlannedJobs:
    """Jobs that are not paused, broken or gone, each with its trigger, which is built once."""

    def __init__(self, jobs: Iterable[JobState]) -> None:
        self._planned = [(job, build(job.trigger, job.scheduled_since)) for job in jobs if is_planned(job)]

    def coming_ticks(
        self, *, now: datetime, until: datetime | None = None, each: int | None = None, limit: int
    ) -> list[ComingTick]:
        """Return the ticks that the jobs owe from ``now`` on, earliest first, ``limit`` and ``each`` of a job at most.

        Jobs with ``unknown_triggers`` have none.
        """
        found = (
            islice(_ticks_of(job, trigger, now, until), each) for job, trigger in self._planned if trigger is not None
        )
        return list(islice(heapq.merge(*found, key=lambda tick: (tick.due, tick.job_id)), limit))

    def remarks(self, now: datetime) -> list[str]:
        """Return ``remarks_on`` the triggers."""
        return remarks_on({job.id: trigger for job, trigger in self._planned if trigger is not None}, now)

    def unknown_triggers(self) -> list[str]:
        """Return the ids of jobs whose trigger is a custom class; only the leader can compute their ticks."""
        return [job.id for job, trigger in self._planned if trigger is None]


def zone_of(trigger: BaseTrigger | None) -> tzinfo | None:
    """Return the zone by whose clocks the trigger goes; None if it counts elapsed time, or has several zones."""
    if trigger is None or not is_known(trigger):
        return None
    if isinstance(trigger, CronTrigger | CalendarIntervalTrigger):
        own: tzinfo = trigger.timezone
        return own
    if isinstance(trigger, AndTrigger | OrTrigger):
        zones = {str(zone): zone for part in trigger.triggers if (zone := zone_of(part)) is not None}
        return next(iter(zones.values())) if len(zones) == 1 else None
    return None


def zone_name(trigger: BaseTrigger | None) -> str | None:
    """Return the name of ``zone_of`` the trigger; None if that is None."""
    zone = zone_of(trigger)
    return None if zone is None else str(zone)


def _ticks_of(job: JobState, trigger: BaseTrigger, now: datetime, until: datetime | None) -> Iterator[ComingTick]:
    zone, name, jitter_s = zone_of(trigger), zone_name(trigger), jitter_of(job.trigger).total_seconds()
    planned, due = without_jitter(trigger), max(now, job.settled_until)
    while (found := first_after(planned, due)) is not None and (until is None or found <= until):
        due = found
        change = None if zone is None else next_change(due - CHANGE_MARGIN, due + CHANGE_MARGIN, zone)
        yield ComingTick(
            job_id=job.id,
            due=due,
            local=due if zone is None else due.astimezone(zone),
            timezone=name,
            jitter_s=jitter_s,
            clock_change=change,
            clock_change_s=None if change is None or zone is None else _put_forward_s(change, zone),
        )


def _put_forward_s(change: datetime, zone: tzinfo) -> float:
    return (offset_at(change, zone) - offset_at(change - timedelta(seconds=1), zone)).total_seconds()
