"""The ticks of a trigger, as one function of a moment: the scheduler, a catch-up and ``verify`` see the same ones.

APScheduler's triggers answer differently according to who asks, and with what tick before. Here the answer depends on
the trigger and the moment alone, and is APScheduler's own wherever that is one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from copy import copy
from datetime import UTC, date, datetime, timedelta

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from .model import JobState

ROUNDS_AT_MOST = 20_000
"""So often the parts of an ``and`` are asked before it is said that they never agree (APScheduler asks for ever)."""

_MICROSECOND = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_SINGLE = (CronTrigger, IntervalTrigger, CalendarIntervalTrigger)
_COMBINED = (AndTrigger, OrTrigger)


def first_after(trigger: BaseTrigger, moment: datetime) -> datetime | None:
    """The first tick later than ``moment``, in UTC; None if there is none."""
    match trigger:
        case CronTrigger():
            return _cron(trigger, moment)
        case IntervalTrigger():
            return _interval(trigger, moment)
        case DateTrigger():
            return trigger.run_date.astimezone(UTC) if trigger.run_date > moment else None
        case CalendarIntervalTrigger():
            return _jittered(trigger, _walk(without_jitter(trigger), _last_known(trigger, moment), moment))
        case OrTrigger():  # APScheduler counts each part from whichever was last
            dues = (first_after(part, moment) for part in trigger.triggers)
            return _jittered(trigger, min((due for due in dues if due is not None), default=None))
        case AndTrigger():
            return _jittered(trigger, _agreed([without_jitter(part) for part in trigger.triggers], moment))
    return _walk(trigger, None, moment)


def next_run_time(job: JobState, trigger: BaseTrigger | None, now: datetime) -> datetime | None:
    """When a job runs next by the ledger's word, in UTC; None if nothing of it is planned."""
    if trigger is None or job.retired_at or job.paused or job.broken:
        return None
    return first_after(trigger, max(job.settled_until, now))


def ticks(trigger: BaseTrigger, after: datetime, until: datetime) -> Iterator[datetime]:
    """The ticks later than ``after`` up to and including ``until``, in UTC."""
    due = first_after(trigger, after)
    while due is not None and due <= until:
        yield due
        due = first_after(trigger, due)


def without_jitter(trigger: BaseTrigger) -> BaseTrigger:
    """The trigger at the moments that were planned: what is owed can only be counted by these."""
    if isinstance(trigger, _COMBINED):
        return type(trigger)([without_jitter(part) for part in trigger.triggers])
    if isinstance(trigger, _SINGLE) and trigger.jitter:
        trigger = copy(trigger)
        trigger.jitter = None
    return trigger


def _cron(trigger: CronTrigger, moment: datetime) -> datetime | None:
    """What APScheduler answers to whoever asks from before the hour that a clock leaves out in spring.

    Half past two, which does not exist then, it takes for the moment half an hour later, unless it is asked within
    that half hour: a takeover at this time would lose the tick.
    """
    found = _walk(trigger, None, moment)
    began = _clock_set_forward(trigger, moment)
    if began is not None and (left_out := _walk(trigger, None, began - _SECOND - _MICROSECOND)) is not None:
        return left_out if left_out > moment else found
    return found


def _clock_set_forward(trigger: CronTrigger, moment: datetime) -> datetime | None:
    """When clocks were set forward, if ``moment`` is no later than that by more than they were set forward by."""

    def offset(when: datetime) -> timedelta:
        return when.astimezone(trigger.timezone).utcoffset() or timedelta(0)

    by = offset(moment) - offset(moment - _DAY)
    if by <= timedelta(0):
        return None
    early, late = moment - _DAY, moment
    while late - early > _SECOND:
        middle = early + (late - early) / 2
        early, late = (early, middle) if offset(middle) == offset(moment) else (middle, late)
    began = late.replace(microsecond=0)
    return began if moment - began < by else None


def _interval(trigger: IntervalTrigger, moment: datetime) -> datetime | None:
    """In whole microseconds from the start: APScheduler's floats are now and then one off, and a tick with them."""
    start = trigger.start_date.astimezone(UTC)
    due = start + max(0, (moment - start) // trigger.interval + 1) * trigger.interval
    return None if trigger.end_date is not None and due > trigger.end_date else _jittered(trigger, due)


def _walk(trigger: BaseTrigger, last: date | None, moment: datetime) -> datetime | None:
    zone = getattr(trigger, "timezone", None) or UTC
    found = trigger.get_next_fire_time(last, (moment + _MICROSECOND).astimezone(zone))
    while found is not None and found <= moment:  # a trigger that rounds, or that goes on from its start
        later = trigger.get_next_fire_time(found, found)
        if later is not None and later <= found:
            return None  # it stands still, and would for ever
        found = later
    return None if found is None else found.astimezone(UTC)


def _last_known(trigger: CalendarIntervalTrigger, moment: datetime) -> date | None:
    """One of the trigger's own dates shortly before ``moment``: by itself it would count from the first one on."""
    step = trigger.days + 7 * trigger.weeks
    if trigger.years or trigger.months:
        return None
    steps = (moment.astimezone(trigger.timezone).date() - trigger.start_date).days // step - 1
    return trigger.start_date + timedelta(days=steps * step) if steps > 0 else None


def _agreed(parts: Sequence[BaseTrigger], moment: datetime) -> datetime | None:
    """APScheduler never finds it with a calendarinterval among the parts: that one's first tick is always its start."""
    for _ in range(ROUNDS_AT_MOST):
        dues = [due for part in parts if (due := first_after(part, moment)) is not None]
        if len(dues) < len(parts):
            return None
        if min(dues) == max(dues):
            return dues[0]
        moment = max(dues) - _MICROSECOND
    return None


def _jittered(trigger: BaseTrigger, due: datetime | None) -> datetime | None:
    return due + timedelta(seconds=random.uniform(0, trigger.jitter)) if due is not None and trigger.jitter else due
