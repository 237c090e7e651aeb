"""P4: the ticks of a cron expression across clock changes, against oracles that do not use APScheduler.

One is ``cronsim``, which implements the rule of Debian's cron. The other examines each minute of the days around a
change. cronsim is no oracle for recurring minutes where the clocks change at midnight or by less than an hour: it
returns 00:00 where that does not exist, and skips a half hour (version 2.8).
"""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from croniter import croniter
from cronsim import CronSim

from election.schedule.ticks import first_after, ticks
from election.schedule.wall_clock import next_change
from tests.support.tools import needs

ZONES = (  # noqa: SIM905
    "Europe/Berlin Europe/London Europe/Lisbon Europe/Dublin Europe/Moscow Europe/Istanbul America/New_York "
    "America/Los_Angeles America/St_Johns America/Santiago America/Sao_Paulo America/Havana America/Asuncion "
    "America/Nuuk America/Caracas Asia/Kolkata Asia/Tehran Asia/Gaza Asia/Beirut Asia/Kathmandu Africa/Casablanca "
    "Africa/Cairo Australia/Sydney Australia/Lord_Howe Pacific/Auckland Pacific/Chatham Pacific/Apia Antarctica/Troll "
    "Atlantic/Azores America/Scoresbysund"
).split()  # fmt: skip
WHOLE_HOURS_AT_NIGHT = ["Europe/Berlin", "America/New_York", "Australia/Sydney", "Pacific/Auckland"]
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
BERLIN = ZoneInfo("Europe/Berlin")
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


def days_of_change(zone: ZoneInfo) -> list[datetime]:
    """Beginnings, in UTC, of the days of ten years on which the offset changes."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    days = [start + number * DAY for number in range(3653)]
    found = [day for day in days if day.astimezone(zone).utcoffset() != (day + DAY).astimezone(zone).utcoffset()]
    return found or [start]


def random_field(rng: random.Random, low: int, high: int, *, recurs: bool) -> str:
    if recurs:
        return rng.choice(["*", f"*/{rng.choice([2, 3, 5, 7, 11])}"])
    first, last = sorted(rng.sample(range(low, high + 1), 2))
    step = f"{first}-{last}/{rng.choice([2, 3])}" if last - first >= 3 else f"{first}"
    return rng.choice([str(first), f"{first}-{last}", f"{first},{last}", step])


def random_expression(rng: random.Random, *, recurs: bool) -> tuple[str, str, str, str]:
    """Minute, hour, day of month, day of week in cron's numbers."""
    which = rng.choice([(True, False), (False, True), (True, True)]) if recurs else (False, False)
    minute = random_field(rng, 0, 59, recurs=which[0])
    hour = random_field(rng, 0, rng.choice([4, 23]), recurs=which[1])
    day, weekday = rng.choice([("*", "*"), ("*", "*"), ("*/2", "*"), ("*", "0"), ("*", "1"), ("*", "6")])
    return minute, hour, day, weekday


def trigger_of(expression: tuple[str, str, str, str], zone: ZoneInfo) -> CronTrigger:
    minute, hour, day, weekday = expression
    name = weekday if weekday == "*" else WEEKDAYS[int(weekday)]
    return CronTrigger(minute=minute, hour=hour, day=day, day_of_week=name, timezone=zone)


def by_cronsim(
    expression: tuple[str, str, str, str], zone: ZoneInfo, after: datetime, until: datetime
) -> list[datetime]:
    minute, hour, day, weekday = expression
    found: list[datetime] = []
    for local in CronSim(f"{minute} {hour} {day} * {weekday}", after.astimezone(zone)):
        due = local.astimezone(UTC)
        if due > until:
            return found
        if due > after and due not in found[-1:]:
            found.append(due)
    return found


@cache
def numbers(field: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        start, stop = (low, high) if span == "*" else (int(first), int(last or first))
        found |= set(range(start, stop + 1, int(step or 1)))
    return frozenset(found)


def matches(expression: tuple[str, str, str, str], wall: datetime) -> bool:
    minute, hour, day, weekday = expression
    return (
        wall.minute in numbers(minute, 0, 59)
        and wall.hour in numbers(hour, 0, 23)
        and wall.day in numbers(day, 1, 31)
        and wall.isoweekday() % 7 in numbers(weekday, 0, 6)
    )


def by_each_minute(expression: tuple[str, str, str, str], clock: list[tuple[datetime, datetime]]) -> list[datetime]:
    """Return the ticks among the minutes of ``clock``, which are pairs of UTC and wall clock time.

    A recurring minute is due whenever the clock shows it; a fixed one when the clock first shows it or a later one.
    """
    if expression[0].startswith("*") or expression[1].startswith("*"):
        return [moment for moment, wall in clock if matches(expression, wall)]
    found = []
    latest = clock[0][1] - MINUTE
    for moment, wall in clock:
        reached: Iterator[datetime] = (latest + number * MINUTE for number in range(1, (wall - latest) // MINUTE + 1))
        if any(matches(expression, each) for each in reached):
            found.append(moment)
        latest = max(latest, wall)
    return found


@pytest.mark.parametrize("last", [2, pytest.param(10_000, marks=pytest.mark.extended)], ids=["last two", "all"])
@pytest.mark.parametrize(
    "name",
    [*ZONES[::3], *(pytest.param(name, marks=pytest.mark.extended) for name in ZONES if name not in ZONES[::3])],
)
def test_p4_the_ticks_around_each_clock_change_of_ten_years_are_those_of_cron(name: str, last: int) -> None:
    zone, rng = ZoneInfo(name), random.Random(name)
    for day in days_of_change(zone)[-last:]:
        start, end = day - DAY / 4, day + 2 * DAY
        clock = []
        for number in range((end - start) // MINUTE + 1):
            moment = start + number * MINUTE
            clock.append((moment, moment.astimezone(zone).replace(tzinfo=None)))
        for recurs in (False, False, True):
            expression = random_expression(rng, recurs=recurs)
            found = list(ticks(trigger_of(expression, zone), start - MINUTE, end))
            told = f"{expression} in {name} around {day}"
            assert found == by_each_minute(expression, clock), told
            if not recurs or name in WHOLE_HOURS_AT_NIGHT:
                assert found == by_cronsim(expression, zone, start - MINUTE, end), told
            for due in found[:20]:  # the same chain from any start
                assert first_after(trigger_of(expression, zone), due - timedelta(microseconds=1)) == due, told


@pytest.mark.extended
@pytest.mark.parametrize("name", ZONES)
def test_p4_fixed_times_over_ten_years_are_those_of_cron(name: str) -> None:
    """Each tick of ten years, none lost and none run twice."""
    zone = ZoneInfo(name)
    start, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
    for expression in [("30", "2", "*", "*"), ("0", "0", "*", "1")]:
        found = list(ticks(trigger_of(expression, zone), start, end))
        assert found == by_cronsim(expression, zone, start, end)


def by_croniter(
    expression: tuple[str, str, str, str], zone: ZoneInfo, after: datetime, until: datetime
) -> list[datetime]:
    minute, hour, day, weekday = expression
    each = croniter(f"{minute} {hour} {day} * {weekday}", after.astimezone(zone), ret_type=datetime)
    return [due.astimezone(UTC) for due in takewhile(lambda due: due <= until, each)]


def by_systemd(
    expression: tuple[str, str, str, str], zone: ZoneInfo, after: datetime, until: datetime
) -> list[datetime]:
    minute, hour, _, weekday = expression
    days = "" if weekday == "*" else f"{WEEKDAYS[int(weekday)]} "
    base, text = f"{after + timedelta(seconds=1):%Y-%m-%d %H:%M:%S} UTC", f"{days}*-*-* {hour}:{minute}:00 {zone}"
    command = ["systemd-analyze", "calendar", f"--base-time={base}", "--iterations=60", text]
    done = subprocess.run(command, env={**os.environ, "TZ": "UTC"}, capture_output=True, text=True, check=True)
    found = re.findall(r"(?:Next elapse|Iter\. #\d+): \w+ (\S+ \S+) UTC", done.stdout)
    return [due for at in found if (due := datetime.fromisoformat(f"{at}+00:00")) <= until]


def check_away_from_the_change(name: str, oracle: Callable[..., list[datetime]]) -> None:
    """Fixed times, four days around the last changes: the same except for three hours before and after each."""
    zone, rng = ZoneInfo(name), random.Random(name)
    for day in days_of_change(zone)[-2:]:
        start, end = day - 2 * DAY, day + 3 * DAY
        change = next_change(day, day + DAY, zone) or day
        for weekday in ("*", "0", "1"):
            minute, hour = str(rng.randrange(60)), ",".join(map(str, sorted(rng.sample(range(24), 3))))
            expression = (minute, hour, "*", weekday)
            expected, found = (
                [due for due in dues if abs(due - change) > timedelta(hours=3)]
                for dues in (
                    oracle(expression, zone, start, end),
                    list(ticks(trigger_of(expression, zone), start, end)),
                )
            )
            assert found == expected, f"{expression} in {name} around {change}"
            assert found or weekday != "*"


@pytest.mark.parametrize("name", ZONES)
def test_croniter_agrees_but_for_the_hours_of_a_change(name: str) -> None:
    """APScheduler runs repeated times twice."""
    check_away_from_the_change(name, by_croniter)


@needs("systemd-analyze")
@pytest.mark.parametrize("name", ZONES)
def test_systemd_agrees_but_for_the_hours_of_a_change(name: str) -> None:
    """APScheduler does not run times that are left out."""
    check_away_from_the_change(name, by_systemd)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_p4_midnight_after_the_spring_change_is_not_lost() -> None:
    """docs/pitfalls.md#26: APScheduler 3.11.3 jumps from Sunday to Tuesday."""
    found = list(ticks(CronTrigger(hour=0, timezone=BERLIN), utc("2027-03-27T12:00+01:00"), utc("2027-03-30T12:00Z")))
    assert found == [utc(f"2027-03-{day}:00") for day in ("28T00:00+01", "29T00:00+02", "30T00:00+02")]


def test_a_calendar_interval_follows_the_same_rule() -> None:
    daily = CalendarIntervalTrigger(days=1, hour=2, minute=30, start_date=date(2026, 1, 1), timezone=BERLIN)
    assert first_after(daily, utc("2027-03-28T00:00+01:00")) == utc("2027-03-28T03:00+02:00")
    assert first_after(daily, utc("2027-03-28T03:00+02:00")) == utc("2027-03-29T02:30+02:00")
    assert first_after(daily, utc("2027-10-31T00:00+02:00")) == utc("2027-10-31T02:30+02:00")
    assert first_after(daily, utc("2027-10-31T02:30+02:00")) == utc("2027-11-01T02:30+01:00")


def test_the_dates_of_a_calendar_interval_are_counted_from_its_start() -> None:
    """A day that a zone left out (Apia, 30 December 2011) moves no later tick."""
    apia = ZoneInfo("Pacific/Apia")
    weekly = CalendarIntervalTrigger(weeks=2, start_date=date(2011, 12, 2), timezone=apia)
    found = list(islice(ticks(weekly, datetime(2011, 12, 1, tzinfo=UTC), datetime(2012, 2, 1, tzinfo=UTC)), 5))
    assert [due.astimezone(apia).date().isoformat() for due in found] == [
        "2011-12-02", "2011-12-16", "2011-12-31", "2012-01-13", "2012-01-27",
    ]  # fmt: skip


def test_an_interval_goes_by_elapsed_time() -> None:
    trigger = IntervalTrigger(hours=12, start_date=datetime(2027, 3, 27, 12, tzinfo=BERLIN), timezone=BERLIN)
    found = list(ticks(trigger, utc("2027-03-27T12:00+01:00"), utc("2027-03-28T23:59Z")))
    assert [due.astimezone(BERLIN).hour for due in found] == [0, 13, 1]


def test_combined_triggers_follow_the_same_rule() -> None:
    half_past = CronTrigger(hour=2, minute=30, timezone=BERLIN)
    three = CronTrigger(hour=3, timezone=BERLIN)
    before = utc("2027-03-28T00:00+01:00")
    assert first_after(AndTrigger([half_past, three]), before) == utc("2027-03-28T03:00+02:00")
    both = OrTrigger([half_past, three])
    assert list(ticks(both, before, utc("2027-03-29T00:00Z"))) == [utc("2027-03-28T03:00+02:00")]
    jittered = CronTrigger(hour=2, minute=30, timezone=BERLIN, jitter=60)
    due = first_after(jittered, before)
    assert due is not None
    assert timedelta(0) <= due - utc("2027-03-28T03:00+02:00") <= MINUTE
