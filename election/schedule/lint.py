"""Remarks on schedules that a coming clock change will move, and on many jobs that are due at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta, tzinfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger

from election.core.clock import yield_to_loop
from election.core.events import named
from election.core.logs import log

from .commands import Entry, RegisterJob
from .cron import cron_fields
from .job_info import name_few
from .model import JobState
from .ticks import first_after, is_known, without_jitter
from .wall_clock import CHANGE_WINDOW, next_change, offset_at

AHEAD = timedelta(days=300)
"""Time in which clock changes are looked for."""

MAX_TOGETHER = 30
"""Jobs that may fall due at the same moment without a remark."""

_SECOND = timedelta(seconds=1)


def remarks_on(triggers: Mapping[str, BaseTrigger], now: datetime) -> list[str]:
    """Return remarks on cron jobs with fixed times.

    Args:
        triggers: Triggers by job id.
        now: Wall clock, UTC.
    """
    return [remark for remark in _steps(triggers, now) if remark is not None]


async def log_remarks(triggers: Mapping[str, BaseTrigger], now: datetime) -> None:
    """Log ``remarks_on`` the triggers, job by job between other work of the event loop."""
    for remark in _steps(triggers, now):
        if remark is None:
            await yield_to_loop()
        else:
            log.info("%s", remark, extra=named("schedule_remark"))


def log_changed_zones(before: Iterable[JobState], entries: Iterable[Entry]) -> None:
    """Warn of jobs that are registered anew with another time zone and nothing else: hosts of the pool may differ."""
    known = {job.id: job for job in before}
    for entry in entries:
        if not isinstance(entry, RegisterJob) or entry.job_id not in known:
            continue
        old, new = known[entry.job_id].trigger, entry.trigger
        if old.get("timezone") != new.get("timezone") and {**old, "timezone": None} == {**new, "timezone": None}:
            log.warning(
                "job %s: its time zone was %s and is %s now, so that its schedule begins anew; if nobody has changed"
                ' it, hosts of this pool differ in TZ: give the job timezone=…, or scheduler_options={"timezone": …}',
                entry.job_id, old.get("timezone"), new.get("timezone"), extra=named("zone_changed"),
            )  # fmt: skip


def _steps(triggers: Mapping[str, BaseTrigger], now: datetime) -> Iterator[str | None]:
    """The remarks, and None after each step of the work."""
    fixed = {}
    for job_id, trigger in triggers.items():
        if isinstance(trigger, CronTrigger) and is_known(trigger) and not cron_fields(trigger).recurs:
            fixed[job_id] = trigger
            yield None
    yield from _on_clock_changes(fixed, now)
    yield from _on_collisions(fixed, now)


def _on_clock_changes(triggers: Mapping[str, CronTrigger], now: datetime) -> Iterator[str | None]:
    by_zone: dict[str, dict[str, CronTrigger]] = defaultdict(dict)
    for job_id, trigger in triggers.items():
        by_zone[str(trigger.timezone)][job_id] = trigger
    for name, its_jobs in by_zone.items():
        zone = next(iter(its_jobs.values())).timezone
        for change in _changes(zone, now):
            before, after = (
                (change + offset).replace(tzinfo=None)
                for offset in (offset_at(change - _SECOND, zone), offset_at(change, zone))
            )
            hit = []
            for job_id, trigger in its_jobs.items():
                if _is_due(trigger, *sorted((before, after))):
                    hit.append(job_id)
                yield None
            if not hit:
                continue
            if after > before:
                what = f"leave out {before:%H:%M} to {after:%H:%M}; what is due in between runs at {after:%H:%M}"
            else:
                what = f"show {after:%H:%M} to {before:%H:%M} twice; what is due in between runs once, the first time"
            yield f"on {before:%Y-%m-%d} the clocks of {name} {what}: {name_few(hit)}"


def _on_collisions(triggers: Mapping[str, CronTrigger], now: datetime) -> Iterator[str | None]:
    together: dict[datetime, list[str]] = defaultdict(list)
    for job_id, trigger in triggers.items():
        if not trigger.jitter and (due := first_after(without_jitter(trigger), now)) is not None:
            together[due].append(job_id)
        yield None
    for due, jobs in sorted(together.items()):
        if len(jobs) > MAX_TOGETHER:
            yield (
                f"{len(jobs)} jobs are due at the same moment, next at {due:%Y-%m-%d %H:%M:%S} UTC: spread them, or"
                f" give them jitter: {name_few(jobs)}"
            )


def _changes(zone: tzinfo, now: datetime) -> Iterator[datetime]:
    """Clock changes within ``AHEAD`` of ``now``."""
    start = now
    while start < now + AHEAD:
        if (change := next_change(start, start + CHANGE_WINDOW, zone)) is not None:
            yield change
        start += CHANGE_WINDOW


def _is_due(trigger: CronTrigger, first: datetime, beyond: datetime) -> bool:
    """Whether the trigger has a tick from ``first`` to before ``beyond``, both by its wall clock."""
    due = cron_fields(trigger).first_from(first)
    return due is not None and due < beyond
