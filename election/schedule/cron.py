"""Cron fields on the wall clock: the dates and times of day that they name, without any time zone.

``CronFields`` reads the fields of APScheduler's ``CronTrigger`` once. Its searches are bounded: the Gregorian calendar
repeats after 400 years, and an expression without a date within these has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from functools import cached_property, lru_cache
from itertools import repeat
from typing import Any

from apscheduler.triggers.cron import CronTrigger

MAX_YEARS = 400
"""Years that a search for a date looks at; those that the ``year`` field leaves out are not counted."""

MAX_CACHED_TRIGGERS = 4096

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


class CronFields:
    """The fields of one cron trigger.

    Args:
        fields: The ``fields`` of APScheduler's ``CronTrigger``.
    """

    def __init__(self, fields: Sequence[Any]) -> None:
        by_name = {field.name: field for field in fields}
        self._year = by_name["year"]
        self._day_fields = [by_name[name] for name in ("day", "week", "day_of_week")]
        self._months = _table(by_name["month"], 13, lambda value: datetime(2000, max(value, 1), 1))  # noqa: DTZ001
        self._hours = _table(by_name["hour"], 24, lambda value: datetime(2000, 1, 1, value))  # noqa: DTZ001
        self._minutes = _table(by_name["minute"], 60, lambda value: datetime(2000, 1, 1, 0, value))  # noqa: DTZ001
        self._seconds = _table(by_name["second"], 60, lambda value: datetime(2000, 1, 1, 0, 0, value))  # noqa: DTZ001
        self._days = lru_cache(maxsize=24)(self._find_days)
        self._last_asked = date.max, False
        self.recurs = any(str(by_name[name]).startswith("*") for name in ("hour", "minute", "second"))
        """Whether the ticks recur within the day (``*``, ``*/10``) and so go by elapsed time, as in Debian's cron."""

    @cached_property
    def is_empty(self) -> bool:
        """Whether no date in the years from 1970 on, or no time of day, has a tick."""
        return self.first_from(datetime(1970, 1, 1)) is None  # noqa: DTZ001  a wall clock time

    def first_from(self, wall: datetime) -> datetime | None:
        """Return the first wall clock time with a tick that is not before ``wall``; None if there is none."""
        if wall.microsecond:
            wall = wall.replace(microsecond=0) + _SECOND
        day = wall.date()
        if self._has(day) and (found := self._time_from(wall.hour, wall.minute, wall.second)) is not None:
            return datetime.combine(day, found)
        first = self._time_from(0, 0, 0)
        if first is None or day == date.max or (next_day := self._day_from(day + _DAY)) is None:
            return None
        return datetime.combine(next_day, first)

    def _has(self, day: date) -> bool:
        known, answer = self._last_asked  # most calls are about the same day
        if known != day:
            answer = self._matches(day)
            self._last_asked = day, answer
        return answer

    def _matches(self, day: date) -> bool:
        return (
            self._months[day.month] == day.month
            and self._year.get_next_value(day) == day.year
            and day.day in self._days(day.year, day.month)
        )

    def _time_from(self, hour: int, minute: int, second: int) -> time | None:
        first_minute, first_second = self._minutes[0], self._seconds[0]
        if first_minute is None or first_second is None:
            return None
        if self._hours[hour] == hour:
            if self._minutes[minute] == minute and (found := self._seconds[second]) is not None:
                return time(hour, minute, found)
            if minute < 59 and (found := self._minutes[minute + 1]) is not None:
                return time(hour, found, first_second)
        later = self._hours[hour + 1] if hour < 23 else None
        return None if later is None else time(later, first_minute, first_second)

    def _day_from(self, day: date) -> date | None:
        for _ in repeat(None, MAX_YEARS):
            year = self._year.get_next_value(day)
            if year is None:
                return None
            if year > day.year:
                day = date(year, 1, 1)
            month = self._months[day.month]
            while month is not None:
                first_day = day.day if month == day.month else 1
                for found in self._days(day.year, month):
                    if found >= first_day:
                        return date(day.year, month, found)
                month = self._months[month + 1] if month < 12 else None
            if day.year == date.max.year:
                return None
            day = date(day.year + 1, 1, 1)
        return None

    def _find_days(self, year: int, month: int) -> tuple[int, ...]:
        day, found = date(year, month, 1), []
        for _ in repeat(None, 31):
            if day.month == month and all(
                field.get_next_value(day) == field.get_value(day) for field in self._day_fields
            ):
                found.append(day.day)
            if day == date.max:
                break
            day += _DAY
        return tuple(found)


def cron_fields(trigger: CronTrigger) -> CronFields:
    """Return the fields of ``trigger``, from a cache if a copy of it has been seen before."""
    return _cached(_Identity(trigger.fields))


class _Identity:
    """A cache key that is equal for the same object only, and keeps it alive."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value


@lru_cache(maxsize=MAX_CACHED_TRIGGERS)
def _cached(fields: _Identity) -> CronFields:
    return CronFields(fields.value)


def _table(field: Any, size: int, probe: Callable[[int], datetime]) -> tuple[int | None, ...]:
    """Return for each value from 0 the first one that is not before it and that ``field`` names."""
    return tuple(field.get_next_value(probe(value)) for value in range(size))
