"""Triggers as values: written to the ledger, compared, and built again, by any process, with the same ticks.

Values that APScheduler would take from the moment of construction (the start of an interval, the date of a date
trigger) differ from worker to worker, so they are left open here and anchored to the job's first registration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from numbers import Integral
from typing import Any
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from election.core.errors import ElectionError
from election.core.numbers import to_count, to_seconds

from .cron import cron_fields
from .crontab import WEEKDAYS
from .model import JobState
from .ticks import SHORTEST_INTERVAL, SearchLimitError, is_known, search
from .wall_clock import offset_at

JUST_NOW = timedelta(seconds=60)
"""A start this close to the moment of registration, to the microsecond, was read from the clock, not given."""

_NAMES_OF_UTC = frozenset({"UTC", "UCT", "Universal", "Zulu", "Etc/UTC", "Etc/UCT", "Etc/Universal", "Etc/Zulu"})

_CALENDAR_FIELDS = ("years", "months", "weeks", "days")


class UnstableTriggerError(ElectionError, ValueError):
    """The trigger would have other ticks in every process, or none that can be found."""


_AT_FIRST = {"type": "date", "run_date": None}
"""Description of the tick at a job's first registration."""


class FirstRunNow(OrTrigger):  # type: ignore[misc]  # APScheduler 3 has no types
    """One tick when a job is first registered, then those of another trigger: ``FirstRunNow([at_first, other])``."""

    def __str__(self) -> str:
        return f"once at first, then {trigger_text(self.triggers[1])}"


def with_first_run(
    trigger: BaseTrigger, description: Mapping[str, Any], now: datetime
) -> tuple[BaseTrigger, dict[str, Any]]:
    """Return the trigger with a tick before its others, when the job is first registered; and its description.

    Raises:
        UnstableTriggerError: The trigger has one tick only, or is a custom class.
    """
    if description["type"] in {"date", "other"}:
        raise UnstableTriggerError('first_run="now" goes with cron, crontab, interval and calendarinterval')
    parts = [_AT_FIRST, dict(description)]
    return FirstRunNow([DateTrigger(now), trigger]), {"type": "or", "triggers": parts, "jitter": None}


def describe(trigger: BaseTrigger, now: datetime, given: bool | None = None) -> dict[str, Any]:
    """The trigger as JSON, equal in all workers whose code is equal.

    now: the moment of registration.
    given: whether the user gave a start; None if that has to be guessed from the trigger.

    A start that the trigger took from the clock is None. Raises ``UnstableTriggerError`` if one is hidden where it
    cannot be anchored. A custom trigger class is described by its text alone, and never built again.
    """

    def start(moment: datetime, from_clock: datetime) -> str | None:
        # The trigger read the clock before now: an odd moment that is later was given by the user.
        guess = bool(moment.microsecond) and timedelta(0) <= from_clock - moment < JUST_NOW
        return None if given is False or (given is None and guess) else _text(moment)

    match trigger if is_known(trigger) else None:
        case CronTrigger():
            if cron_fields(trigger).is_empty:
                raise UnstableTriggerError(f"{trigger} has no date in any year: it would never run")
            return {
                "type": "cron",
                "fields": {field.name: str(field) for field in trigger.fields},
                "timezone": _zone_name(trigger.timezone),
                "start_date": _text(trigger.start_date),
                "end_date": _text(trigger.end_date),
                "jitter": _jitter(trigger),
            }
        case IntervalTrigger():
            if trigger.interval < SHORTEST_INTERVAL:
                raise UnstableTriggerError(
                    f"an interval is at least {SHORTEST_INTERVAL.total_seconds():g} s, not {trigger.interval_length:g}"
                )
            return {
                "type": "interval",
                "seconds": trigger.interval_length,
                "timezone": "UTC",  # elapsed time needs no zone; that of the process may have no name
                "start_date": start(trigger.start_date, now.astimezone(trigger.timezone) + trigger.interval),
                "end_date": _text(trigger.end_date),
                "jitter": _jitter(trigger),
            }
        case DateTrigger():
            if trigger.run_date.astimezone(UTC).year < 2:  # no moment before it could be computed
                raise UnstableTriggerError("a run_date is in the year 2 or later")
            return {"type": "date", "run_date": start(trigger.run_date, now)}
        case CalendarIntervalTrigger():
            today = {moment.astimezone().date() for moment in (now, now - JUST_NOW)}
            from_clock = trigger.start_date in today if given is None else not given
            return {
                "type": "calendarinterval",
                **{name: to_count(getattr(trigger, name), name, at_least=0) for name in _CALENDAR_FIELDS},
                "time": trigger._time.replace(tzinfo=None).isoformat(),
                "timezone": _zone_name(trigger.timezone),
                "start_date": None if from_clock else trigger.start_date.isoformat(),
                "end_date": _text(trigger.end_date),
                "jitter": _jitter(trigger),
            }
        case AndTrigger() | OrTrigger():
            parts = [describe(part, now, given or None) for part in trigger.triggers]
            if any(is_open(part) for part in parts):
                raise UnstableTriggerError(
                    "a date or interval within a combined trigger needs a start_date (run_date) of its own,"
                    " or its ticks differ from worker to worker"
                )
            kind = "and" if isinstance(trigger, AndTrigger) else "or"
            if kind == "and":
                try:
                    search(trigger, now)
                except SearchLimitError as error:
                    raise UnstableTriggerError(f"an and trigger would never run: {error}") from error
            return {"type": kind, "triggers": parts, "jitter": _jitter(trigger)}
    if (
        isinstance(trigger, IntervalTrigger)
        and start(trigger.start_date, now.astimezone(trigger.timezone) + trigger.interval) is None
    ) or (isinstance(trigger, DateTrigger) and start(trigger.run_date, now) is None):
        raise UnstableTriggerError(
            f"{type(trigger).__qualname__}, a subclass of date or interval, needs a start_date (run_date) of its own,"
            " or its ticks differ from worker to worker"
        )
    text = re.sub(r" at 0x[0-9a-f]+", "", str(trigger))  # its address in this process is no part of it
    return {"type": "other", "text": f"{type(trigger).__module__}.{type(trigger).__qualname__}: {text}"}


def _jitter(trigger: BaseTrigger) -> float | None:
    """Seconds of jitter, as JSON has them. Raises ``ConfigurationError`` for what is no number of seconds."""
    jitter = trigger.jitter
    if jitter is None:
        return None
    seconds = to_seconds(jitter, "jitter", at_least=0)
    return int(seconds) if isinstance(jitter, Integral) else seconds


def build(description: Mapping[str, Any], anchor: datetime) -> BaseTrigger | None:
    """Build the trigger again, with a start that was left open anchored to ``anchor``.

    None for a custom trigger class, and for one that this machine cannot build (a time zone that it does not have).
    """
    try:
        return _build(description, anchor)
    except Exception:  # a row that another version wrote may hold anything
        return None


def _build(description: Mapping[str, Any], anchor: datetime) -> BaseTrigger | None:
    rest = {name: value for name, value in description.items() if name != "type"}
    if "timezone" in rest:
        rest["timezone"] = _zone(rest["timezone"])
    match description["type"]:
        case "cron":
            # A "*" before the last field is the default, and left out for readers.
            fields = {name: text for name, text in rest.pop("fields").items() if text != "*" or name == "second"}
            return CronTrigger(**fields, **rest)
        case "interval":
            first = _moment(rest.pop("start_date")) or anchor + timedelta(seconds=rest["seconds"])
            return IntervalTrigger(start_date=first, end_date=_moment(rest.pop("end_date")), **rest)
        case "date":
            return DateTrigger(_moment(rest["run_date"]) or anchor, timezone=UTC)
        case "calendarinterval":
            hour, minute, second = map(int, rest.pop("time").split(":"))
            start = rest.pop("start_date") or anchor.astimezone(rest["timezone"]).date().isoformat()
            return CalendarIntervalTrigger(hour=hour, minute=minute, second=second, start_date=start, **rest)
        case "and" | "or" as kind:
            parts = [build(part, anchor) for part in rest["triggers"]]
            if None in parts:
                return None
            made = AndTrigger if kind == "and" else FirstRunNow if rest["triggers"][0] == _AT_FIRST else OrTrigger
            return made(parts, jitter=rest["jitter"])
    return None


def trigger_text(trigger: BaseTrigger | None) -> str:
    """Text of a trigger for people, with names of weekdays: in APScheduler's numbers Monday is 0."""
    if isinstance(trigger, AndTrigger | OrTrigger) and not isinstance(trigger, FirstRunNow):
        kind = "and" if isinstance(trigger, AndTrigger) else "or"
        return f"{kind}[{', '.join(map(trigger_text, trigger.triggers))}]"
    if isinstance(trigger, CronTrigger):
        return re.sub(r"day_of_week='([^']*)'", lambda found: f"day_of_week='{_named(found[1])}'", str(trigger))
    try:
        return str(trigger)
    except BaseException:  # of a custom class
        return type(trigger).__qualname__


def _named(weekdays: str) -> str:
    return re.sub(r"(?<!/)\b[0-6]\b", lambda number: WEEKDAYS[int(number[0])], weekdays)


def jitter_of(description: Mapping[str, Any]) -> timedelta:
    """By how much a tick of the trigger may be later than planned."""
    own = timedelta(seconds=description.get("jitter") or 0)
    return own + max(map(jitter_of, description.get("triggers", ())), default=timedelta(0))


def is_open(description: Mapping[str, Any]) -> bool:
    """Whether something was left open, so that ``build`` needs the moment of the job's first registration."""
    return (
        (description["type"] in {"interval", "calendarinterval"} and description["start_date"] is None)
        or (description["type"] == "date" and description["run_date"] is None)
        or any(map(is_open, description.get("triggers", ())))
    )


def unbuilt_text(description: Mapping[str, Any]) -> str:
    """Text of a trigger that cannot be built here: a custom class, or a time zone that this machine does not have."""
    return str(description.get("text") or description.get("type"))


def job_trigger_text(trigger: BaseTrigger | None, job: JobState | None) -> str:
    """``trigger_text`` of a job's trigger; for one that was given at run time, also that of the code's trigger."""
    if job is None or job.new_trigger is None or job.code_trigger is None:
        return trigger_text(trigger)
    new, code = (build(each, job.scheduled_since) for each in (job.new_trigger, job.code_trigger))
    return f"{trigger_text(new)} (in the code: {trigger_text(code)})"


def _text(moment: date | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(text: str | None) -> datetime | None:
    """The time that ``_text`` wrote. APScheduler, given the text, would take ten times as long."""
    return None if text is None else datetime.fromisoformat(text)


def _zone_name(zone: tzinfo) -> str:
    """Return a name that ``_zone`` accepts, for a zone of the time zone database or a fixed offset from UTC."""
    if isinstance(zone, timezone):
        return str(timezone(zone.utcoffset(None)))  # whatever its name is: an offset named CET is not the zone CET
    name: str | None = getattr(zone, "key", None) or getattr(zone, "zone", None)  # pytz calls it zone
    if not name:
        raise UnstableTriggerError(
            f"{zone!r} has no name by which other processes find it: use zoneinfo.ZoneInfo, timezone=… for this job or"
            ' scheduler_options={"timezone": …} for all'
        )
    name = "UTC" if name in _NAMES_OF_UTC else name
    if not _has_same_offsets(zone, name):
        raise UnstableTriggerError(
            f"{zone!r} has other offsets than the zone {name} of the database: use zoneinfo.ZoneInfo, timezone=… for"
            ' this job or scheduler_options={"timezone": …} for all'
        )
    return name


@lru_cache(maxsize=256)
def _has_same_offsets(zone: tzinfo, name: str) -> bool:
    """Whether the zone that other processes build from ``name`` agrees, on every fifth day of 2020 to 2037."""
    try:
        other = _zone(name)
    except (LookupError, ValueError, OSError):
        return False
    days = (datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=number) for number in range(0, 18 * 365, 5))
    return all(offset_at(day, zone) == offset_at(day, other) for day in days)


@lru_cache(maxsize=1024)  # of ``ZoneInfo`` itself holds eight, and reads a file for any other
def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    offset = re.fullmatch(r"UTC([+-])(\d\d):(\d\d)", name)
    if not offset:
        return ZoneInfo(name)
    minutes = int(offset[2]) * 60 + int(offset[3])
    return timezone(timedelta(minutes=minutes if offset[1] == "+" else -minutes))
