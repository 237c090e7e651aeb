"""Catch-up of a job after a time without a leader: bounded before any tick is enumerated (docs/pitfalls.md#24, #29).

Pure functions: owed ticks are derived here from values, and written elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.date import DateTrigger

from .commands import Skip
from .model import JobState, SkipReason
from .ticks import first_after, is_known, max_jitter, ticks, without_jitter
from .triggers import FirstRunNow, build

FIRST_WINDOW = timedelta(seconds=1)

RECENT = timedelta(seconds=10)
"""Ticks that are no older are judged one by one, and recorded as misfired or coalesced rather than as down."""

_MICROSECOND = timedelta(microseconds=1)

MAX_COUNTED_TICKS = 100
"""Ticks of a skip that are counted; to count a month of seconds would take longer than the takeover."""


@dataclass(frozen=True, slots=True)
class CatchUp:
    """``next_due``: the tick to go on with, None if none will come. ``skip``: the ticks before it that are given up."""

    next_due: datetime | None
    skip: Skip | None


def catch_up(
    job_id: str,
    trigger: BaseTrigger,
    *,
    settled_until: datetime,
    now: datetime,
    misfire_grace_time: float | None,
    limit: int,
) -> CatchUp:
    """Find the first tick after ``settled_until`` that may still be run.

    misfire_grace_time: seconds; older ticks are given up at once, since they would be misfires in any case.
    limit: maximum number of ticks that are handed over; older ones are given up too.

    The work done depends on ``limit`` and the grace time, never on how long the pool was down.
    """
    planned = without_jitter(trigger)
    first = first_after(trigger, settled_until)
    if first is None or first > now:  # nothing is owed, as with most jobs at a takeover: one look is enough
        return CatchUp(first, None)
    oldest = _oldest(planned, settled_until, now, _grace_s(trigger, misfire_grace_time), limit)
    next_due = first_after(trigger, oldest)
    return CatchUp(next_due, skipped(job_id, trigger, settled_until, oldest, now, SkipReason.DOWN))


def jump(
    trigger: BaseTrigger, last: datetime, now: datetime, *, misfire_grace_time: float | None, limit: int
) -> datetime:
    """Moment from which a scheduler that wakes at ``now`` goes on after the tick ``last``; ticks between are given up.

    Called after each tick, and so returns at once when the scheduler is not late.
    """
    if now - last <= RECENT:
        return last
    return _oldest(without_jitter(trigger), last, now, _grace_s(trigger, misfire_grace_time), limit)


def skipped(
    job_id: str,
    trigger: BaseTrigger,
    after: datetime,
    until: datetime,
    now: datetime,
    reason: SkipReason,
) -> Skip | None:
    """The ticks later than ``after`` up to ``until`` as one skip; not counted if more than ``MAX_COUNTED_TICKS``."""
    trigger = without_jitter(trigger)
    first = first_after(trigger, after)
    if first is None or first > until:
        return None
    counted = list(islice(ticks(trigger, after, until), MAX_COUNTED_TICKS + 1))
    if len(counted) > MAX_COUNTED_TICKS:
        return Skip(job_id, first, until, None, reason, now)
    return Skip(job_id, first, counted[-1], len(counted), reason, now)


def given_up(job: JobState, now: datetime) -> Skip | None:
    """Return the skip of the ticks that the ended schedule of ``job`` owed until now; None if it owed none."""
    trigger = build(job.trigger, job.scheduled_since)
    reason = SkipReason.DOWN if job.paused_at is None else SkipReason.PAUSED
    return None if trigger is None else skipped(job.id, trigger, job.settled_until, now, now, reason)


def owes_from(trigger: BaseTrigger, now: datetime, *, is_new: bool = True) -> datetime:
    """Return the moment after which a job that is registered now owes its ticks.

    A date trigger owes its one tick even if that has just passed. ``first_run`` is for a job that ``is_new``.
    """
    if isinstance(trigger, FirstRunNow):
        return now - _MICROSECOND if is_new else now
    return min(now, trigger.run_date - _MICROSECOND) if isinstance(trigger, DateTrigger) and is_known(trigger) else now


def _grace_s(trigger: BaseTrigger, misfire_grace_time: float | None) -> float | None:
    """Grace time plus the largest jitter, since the grace counts from the jittered moment, not from the planned one."""
    return None if misfire_grace_time is None else misfire_grace_time + max_jitter(trigger).total_seconds()


def _oldest(
    trigger: BaseTrigger, last: datetime, now: datetime, misfire_grace_time: float | None, limit: int
) -> datetime:
    """A moment not before ``last`` after which there are at most ``limit`` ticks until ``now``, none a misfire.

    Looks back over windows that double, so that a month of seconds costs no more than an hour of them.
    """
    late = now - last
    if misfire_grace_time is not None and late > RECENT and late.total_seconds() > misfire_grace_time:
        last = now - timedelta(seconds=misfire_grace_time)
    window, start = FIRST_WINDOW, now
    if not _more(trigger, last, now, limit):
        return last
    while now - window > last and not _more(trigger, now - window, now, limit):
        start, window = now - window, window * 2
    return start


def _more(trigger: BaseTrigger, after: datetime, until: datetime, than: int) -> bool:
    return next(islice(ticks(trigger, after, until), than, None), None) is not None
