"""The ticks of a trigger, as one function of a moment: the scheduler, a catch-up and ``verify`` see the same ones.

The result depends on the trigger and the moment alone, not on APScheduler's version or on its arithmetic with zones.
Clock changes follow Debian's cron: a fixed time that the clocks leave out is due at the first moment after the gap, a
fixed time that comes twice is due once, the first time, and recurring times (``*``, ``*/10``) go by elapsed time.
"""

from __future__ import annotations

import random
from calendar import monthrange
from collections.abc import Iterator, Sequence
from copy import copy
from datetime import MAXYEAR, UTC, date, datetime, timedelta, tzinfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from election.core.errors import ElectionError, what_went_wrong
from election.core.events import named
from election.core.logs import log

from .cron import CronFields, cron_fields
from .model import JobState
from .wall_clock import CHANGE_WINDOW, next_change, offset_at, to_utc, wall_time

MAX_ROUNDS = 20_000
"""Rounds of a search: for a moment at which all parts of an ``and`` agree, or for a tick of a user's trigger class."""

SHORTEST_INTERVAL = timedelta(milliseconds=1)
"""Shortest time between two ticks of a job: each is claimed, run and settled in the ledger."""

_MICROSECOND = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_SINGLE = (CronTrigger, IntervalTrigger, CalendarIntervalTrigger)
_COMBINED = (AndTrigger, OrTrigger)


class _SeededJitter(float):
    """Seconds of jitter with a seed; APScheduler's triggers have no room for another attribute."""

    def __new__(cls, seconds: float, seed: str) -> _SeededJitter:
        made = super().__new__(cls, seconds)
        made.seed = seed
        return made

    seed: str


class SearchLimitError(ElectionError):
    """The search for a tick has reached ``MAX_ROUNDS``."""


class TriggerError(ElectionError):
    """A trigger cannot be used, for the reason in the message: it raises, or has more ticks than anybody can run."""


def first_after(trigger: BaseTrigger, moment: datetime) -> datetime | None:
    """Return the first tick later than ``moment``, in UTC; None if there is none.

    A search that reaches its limit is logged, and counts as none.
    """
    try:
        return search(trigger, moment)
    except SearchLimitError as error:
        log.warning("trigger %s has no further ticks: %s", trigger, error, extra=named("trigger_search_limit"))
        return None


def search(trigger: BaseTrigger, moment: datetime) -> datetime | None:
    """Do the same as ``first_after``, but report a search that has reached its limit.

    Raises:
        SearchLimitError: The limit was reached.
        TriggerError: The code of a custom class raised what is no ``Exception``, and would end a task of ours.
    """
    try:
        return _search(trigger, moment)
    except Exception:
        raise
    except BaseException as error:  # no cancellation: nothing is awaited here
        raise TriggerError(f"its trigger raises {what_went_wrong(error)}") from error


def _search(trigger: BaseTrigger, moment: datetime) -> datetime | None:
    match trigger:
        case _ if not is_known(trigger):
            return _jittered(trigger, _walk(without_jitter(trigger), moment))
        case CronTrigger():
            return _cron(trigger, moment)
        case IntervalTrigger():
            return _interval(trigger, moment)
        case DateTrigger():
            return trigger.run_date.astimezone(UTC) if trigger.run_date > moment else None
        case CalendarIntervalTrigger():
            return _calendar_interval(trigger, moment)
        case OrTrigger():  # APScheduler counts each part from whichever was last
            dues = (_first_drawn(part, moment) for part in trigger.triggers)
            return _jittered(trigger, min((due for due in dues if due is not None), default=None))
        case AndTrigger():
            return _jittered(trigger, _agreed([without_jitter(part) for part in trigger.triggers], moment))
    return _walk(trigger, moment)


def is_known(trigger: BaseTrigger) -> bool:
    """Whether the class of the trigger is APScheduler's or of this package: a subclass has ticks of its own."""
    return type(trigger).__module__.partition(".")[0] in {"apscheduler", __name__.partition(".")[0]}


def is_planned(job: JobState) -> bool:
    """Whether ticks of the job will be run: it is not gone, paused or broken."""
    return not (job.retired_at or job.removed or job.paused or job.broken)


def next_run_time(job: JobState, trigger: BaseTrigger | None) -> datetime | None:
    """First tick of a job that is not settled yet, in UTC; None if no tick of it is planned.

    It is in the past while that tick is owed: nobody leads, or the leader has not come to it.
    """
    if trigger is None or not is_planned(job):
        return None
    return first_tick(job.id, trigger, max(job.settled_until, job.resume_at or job.settled_until))


def first_tick(job_id: str, trigger: BaseTrigger, moment: datetime) -> datetime | None:
    """First tick of a job later than ``moment``, in UTC; None if there is none, or the trigger raises."""
    try:
        return first_after(with_seed(trigger, job_id), moment)
    except BaseException:  # of the trigger; the leader gets the same error and marks the job as broken
        return None


def ticks(trigger: BaseTrigger, after: datetime, until: datetime) -> Iterator[datetime]:
    """The ticks later than ``after`` up to and including ``until``, in UTC."""
    due = first_after(trigger, after)
    while due is not None and due <= until:
        yield due
        due = first_after(trigger, due)


def with_seed(trigger: BaseTrigger, seed: str) -> BaseTrigger:
    """The trigger with a seed for its jitter: the id of its job, so that no two jobs draw the same.

    The drawn moment is the same at any time and in any process: a new plan, or a takeover, does not move a tick that
    waits for it.
    """
    if not max_jitter(trigger) or not isinstance(trigger, (*_SINGLE, *_COMBINED)):
        return trigger
    trigger = copy(trigger)
    if isinstance(trigger, _COMBINED) and is_known(trigger):
        trigger.triggers = [with_seed(part, f"{seed} {place}") for place, part in enumerate(trigger.triggers)]
    if trigger.jitter:
        trigger.jitter = _SeededJitter(trigger.jitter, seed)
    return trigger


def max_jitter(trigger: BaseTrigger) -> timedelta:
    """By how much a tick may be later than planned."""
    own = timedelta(seconds=getattr(trigger, "jitter", None) or 0)
    return own + max(map(max_jitter, getattr(trigger, "triggers", ())), default=timedelta(0))


def without_jitter(trigger: BaseTrigger) -> BaseTrigger:
    """Return the trigger without its jitter: owed ticks can only be counted by their planned moments."""
    if isinstance(trigger, _COMBINED) and is_known(trigger):
        return type(trigger)([without_jitter(part) for part in trigger.triggers])
    if isinstance(trigger, (*_SINGLE, *_COMBINED)) and trigger.jitter:
        trigger = copy(trigger)
        trigger.jitter = None
    return trigger


def _cron(trigger: CronTrigger, moment: datetime) -> datetime | None:
    if trigger.start_date is not None and trigger.start_date > moment:
        moment = trigger.start_date.astimezone(UTC) - _MICROSECOND
    fields = cron_fields(trigger)
    due = (_by_elapsed_time if fields.recurs else _by_wall_clock)(fields, trigger.timezone, moment)
    if due is None or (trigger.end_date is not None and due > trigger.end_date):
        return None
    due = _jittered(trigger, due)
    return due if trigger.end_date is None else min(due, trigger.end_date.astimezone(UTC))


def _by_wall_clock(fields: CronFields, zone: tzinfo, moment: datetime) -> datetime | None:
    """Fixed times: the first one that ``to_utc`` puts later than ``moment``."""
    wall = wall_time(moment, zone)
    if wall.fold:  # in the second pass of a repeated hour; its times were due in the first one
        change = next_change(moment - CHANGE_WINDOW / 2, moment, zone)
        if change is not None:
            wall = (change + offset_at(change - _SECOND, zone)).replace(tzinfo=None) - _MICROSECOND
    while (found := _first_from(fields, wall + _MICROSECOND)) is not None:
        if (due := to_utc(found, zone)) > moment:
            return due
        wall = found
    return None


def _by_elapsed_time(fields: CronFields, zone: tzinfo, moment: datetime) -> datetime | None:
    """Recurring times: the first moment later than ``moment`` at which the clock of the zone shows one of them."""
    start = moment + _MICROSECOND
    while True:
        offset = offset_at(start, zone)
        found = _first_from(fields, (start + offset).replace(tzinfo=None))
        if found is None:
            return None
        due = found.replace(tzinfo=UTC) - offset
        until = min(due, start + CHANGE_WINDOW)
        if offset_at(until, zone) != offset and (change := next_change(start, until, zone)) is not None:
            start = change
        elif due <= start + CHANGE_WINDOW:
            return due
        else:  # no change of the clocks shows another time of the fields until a day before
            start = max(start + CHANGE_WINDOW, due - CHANGE_WINDOW)


def _first_from(fields: CronFields, wall: datetime) -> datetime | None:
    found = fields.first_from(wall)
    return None if found is None or found.year == MAXYEAR else found  # near the largest date no zone can be computed


def _calendar_interval(trigger: CalendarIntervalTrigger, moment: datetime) -> datetime | None:
    """Dates counted from the start, independently of clock changes, each with its time of day by ``to_utc``."""
    time_of_day = trigger._time.replace(tzinfo=None)
    day = wall_time(moment, trigger.timezone).date() - _DAY  # a gap may put a tick of yesterday after midnight
    for due_date in _calendar_dates(trigger, day):
        if trigger.end_date is not None and due_date > trigger.end_date:
            return None
        if (due := to_utc(datetime.combine(due_date, time_of_day), trigger.timezone)) > moment:
            return _jittered(trigger, due)
    return None


def _calendar_dates(trigger: CalendarIntervalTrigger, first: date) -> Iterator[date]:
    """The dates of a calendar interval, from one that is not later than ``first`` if there is one."""
    days, months = trigger.days + 7 * trigger.weeks, trigger.months + 12 * trigger.years
    day = trigger.start_date
    if not months:
        day += timedelta(days=max(0, (first - day).days // days) * days)
    elif not days:  # a month without this day has no date, and the day of the month stays
        step = max(0, ((first.year - day.year) * 12 + first.month - day.month) // months - 1)
        while (number := day.year * 12 + day.month - 1 + step * months) < 12 * (MAXYEAR + 1):
            if day.day <= monthrange(number // 12, number % 12 + 1)[1]:
                yield date(number // 12, number % 12 + 1, day.day)
            step += 1
        return
    while True:
        yield day
        try:
            number = day.year * 12 + day.month - 1 + months
            while months and day.day > monthrange(number // 12, number % 12 + 1)[1]:
                number += months
            day = date(number // 12, number % 12 + 1, day.day) + timedelta(days=days)
        except (OverflowError, ValueError):
            return


def _interval(trigger: IntervalTrigger, moment: datetime) -> datetime | None:
    """Search in whole microseconds from the start: APScheduler's floats, and so its ticks, are sometimes one off."""
    start = trigger.start_date.astimezone(UTC)
    try:
        due = start + max(0, (moment - start) // trigger.interval + 1) * trigger.interval
    except OverflowError:  # after the year 9999
        return None
    return None if trigger.end_date is not None and due > trigger.end_date else _jittered(trigger, due)


def _walk(trigger: BaseTrigger, moment: datetime) -> datetime | None:
    """Search with a custom trigger class, which may round, or go on from its start."""
    zone = getattr(trigger, "timezone", None) or UTC
    found = trigger.get_next_fire_time(None, (moment + _MICROSECOND).astimezone(zone))
    for _ in range(MAX_ROUNDS):
        if found is None or found > moment:
            return None if found is None else found.astimezone(UTC)
        later = trigger.get_next_fire_time(found, found)
        if later is not None and later <= found:
            raise SearchLimitError(f"it returns {later} after {found}, which is not later")
        found = later
    raise SearchLimitError(f"none of its {MAX_ROUNDS} next ticks is later than {moment}")


def _agreed(parts: Sequence[BaseTrigger], moment: datetime) -> datetime | None:
    """Search for the first moment that all parts share. APScheduler's own search may go on for ever."""
    for _ in range(MAX_ROUNDS):
        dues = [due for part in parts if (due := search(part, moment)) is not None]
        if len(dues) < len(parts):
            return None
        if min(dues) == max(dues):
            return dues[0]
        moment = max(dues) - _MICROSECOND
    raise SearchLimitError(f"its parts do not agree in {MAX_ROUNDS} rounds, which lead up to {moment}")


def _first_drawn(part: BaseTrigger, moment: datetime) -> datetime | None:
    """First tick of a part later than ``moment``: it may be planned before, and wait for its jitter."""
    due = first_after(part, moment - max_jitter(part))
    while due is not None and due <= moment:
        due = first_after(part, due)
    return due


def _jittered(trigger: BaseTrigger, due: datetime | None) -> datetime | None:
    """The tick with its jitter: always the same one, drawn from its planned moment and the trigger's seed.

    It stays before the next planned moment, or that tick would be passed over.
    """
    if due is None or not getattr(trigger, "jitter", None):
        return due
    seed = trigger.jitter.seed if isinstance(trigger.jitter, _SeededJitter) else ""
    following = first_after(without_jitter(trigger), due)
    longest = trigger.jitter if following is None else min(trigger.jitter, (following - due).total_seconds())
    drawn = due + timedelta(seconds=random.Random(f"{seed} {due.isoformat()}").uniform(0, longest))
    return drawn if following is None else min(drawn, following - _MICROSECOND)
