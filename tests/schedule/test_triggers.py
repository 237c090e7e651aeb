"""Triggers as values: equal in all workers, rebuilt with the same ticks, none twice or lost (docs/pitfalls.md#24,
#26).
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zoneinfo
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from itertools import islice, pairwise, takewhile
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import given
from hypothesis import strategies as st

from election.core.errors import JobDefinitionError
from election.schedule.ticks import _calendar_dates, first_after, next_run_time, ticks, with_seed, without_jitter
from election.schedule.triggers import UnstableTriggerError, build, describe, jitter_of
from tests.schedule.making import NOW, CountingTrigger, at, make_job, state_of
from tests.support.logs import logged
from tests.support.pool import ROOT

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # its summer time is half an hour
APIA = ZoneInfo("Pacific/Apia")  # it left out a whole day
INDIA = timezone(timedelta(hours=5, minutes=30))
MICROSECOND = timedelta(microseconds=1)


def some(trigger: BaseTrigger, after: datetime, count: int) -> list[datetime]:
    """First ``count`` ticks later than ``after``."""
    return list(islice(ticks(trigger, after, datetime.max.replace(tzinfo=UTC)), count))


def again(trigger: BaseTrigger, given: bool | None = None) -> BaseTrigger:
    """The trigger, written to the ledger's text and read back."""
    text = json.dumps(describe(trigger, NOW, given))
    built = build(json.loads(text), NOW)
    assert built is not None
    assert json.dumps(describe(built, NOW, True)) == text or '"start_date": null' in text or '"run_date": null' in text
    return built


# --- described and built again ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trigger",
    [
        CronTrigger(timezone="UTC"),
        CronTrigger(second="0-30", timezone="UTC"),
        CronTrigger(second="*/7,3", minute="1-50/3", timezone=BERLIN),
        CronTrigger(hour=3, timezone=BERLIN),
        CronTrigger(hour=3, minute="*", second="*", timezone=BERLIN),
        CronTrigger(hour="*", minute="*/5", timezone=LORD_HOWE),
        CronTrigger(day="last", hour=12, timezone="UTC"),
        CronTrigger(day="3rd fri,last mon", timezone="UTC"),
        CronTrigger(week="*/2", day_of_week="mon-wed,sun", hour=4, timezone=APIA),
        CronTrigger(year="2026-2030", month="jan,jul", timezone=INDIA),
        CronTrigger(year="*", second="*", timezone="UTC"),
        CronTrigger.from_crontab("*/5 8-18 1-7 * 0", timezone=BERLIN),
        CronTrigger.from_crontab("0 0 * * *", timezone=timezone.utc),  # noqa: UP017  APScheduler's own
        CronTrigger(minute=5, timezone=timezone(timedelta(hours=1), "CET")),
        CronTrigger(minute=5, timezone=timezone(-timedelta(hours=3, minutes=30), "anything")),
        CronTrigger(second=0, timezone="UTC", start_date="2026-03-02 18:00:00", end_date="2026-03-02 18:30:00"),
        CronTrigger(second=0, timezone=BERLIN, start_date=datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN)),
        IntervalTrigger(seconds=10, timezone="UTC", start_date="2026-03-01 00:00:03"),
        IntervalTrigger(seconds=0.1, timezone=BERLIN, start_date="2026-03-01 00:00:00.000007"),
        IntervalTrigger(seconds=1 / 3, timezone=BERLIN, start_date="2026-03-01 00:00:00"),
        IntervalTrigger(weeks=1, days=2, hours=3, minutes=4, seconds=5, timezone=INDIA, start_date="2020-01-01"),
        IntervalTrigger(minutes=7, timezone="UTC", start_date="2026-03-05", end_date="2026-03-06"),
        DateTrigger("2026-03-05 04:05:06.789", timezone=BERLIN),
        DateTrigger(datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN)),
        CalendarIntervalTrigger(days=1, hour=12, timezone="UTC", start_date="2026-01-01"),
        CalendarIntervalTrigger(days=1, hour=12, timezone=INDIA, start_date="2026-01-01"),
        CalendarIntervalTrigger(days=1, hour=2, minute=30, second=5, timezone=BERLIN, start_date="2026-01-01"),
        CalendarIntervalTrigger(months=1, timezone=BERLIN, start_date="2026-01-31", end_date="2027-12-31"),
        CalendarIntervalTrigger(years=1, months=2, weeks=3, days=4, timezone=BERLIN, start_date="2026-01-31"),
        OrTrigger([CronTrigger(hour=1, timezone=BERLIN), CronTrigger(hour=2, timezone=INDIA)]),
        OrTrigger(
            [CronTrigger(hour=1, timezone="UTC"), IntervalTrigger(hours=7, start_date="2026-01-01", timezone="UTC")]
        ),
        OrTrigger([CalendarIntervalTrigger(days=3, start_date="2026-01-01", timezone=BERLIN), DateTrigger(at(9))]),
        AndTrigger(
            [CronTrigger(hour="1-5", minute="*/7", timezone=INDIA), CronTrigger(hour="3-9", minute=7, timezone=INDIA)]
        ),
        AndTrigger(
            [
                OrTrigger([CronTrigger(hour=1, timezone=BERLIN), CronTrigger(hour=2, timezone=BERLIN)]),
                CronTrigger(day=5, hour="*", timezone=BERLIN),
            ]
        ),
    ],
    ids=repr,
)  # fmt: skip
def test_a_built_trigger_has_the_same_ticks(trigger: BaseTrigger) -> None:
    built = again(trigger)
    assert some(built, NOW, 50) == some(trigger, NOW, 50) != []
    assert type(built) is type(trigger)


@pytest.mark.parametrize(
    ("trigger", "text"),
    [
        (CronTrigger(second="0-30", timezone="UTC"), "cron[second='0-30']"),
        (CronTrigger(hour=3, timezone="UTC"), "cron[hour='3', minute='0', second='0']"),
        (CronTrigger(hour=3, second="*", timezone="UTC"), "cron[hour='3', second='*']"),
    ],
)
def test_a_built_cron_trigger_reads_like_what_was_written(trigger: CronTrigger, text: str) -> None:
    assert str(again(trigger)) == text


def test_jitter_goes_with_the_description() -> None:
    for trigger in (
        CronTrigger(second=0, timezone="UTC", jitter=5),
        IntervalTrigger(minutes=1, timezone="UTC", start_date="2026-01-01", jitter=5),
        CalendarIntervalTrigger(days=1, timezone="UTC", start_date="2026-01-01", jitter=5),
    ):
        assert again(trigger).jitter == 5
        assert jitter_of(describe(trigger, NOW)) == timedelta(seconds=5)
        assert trigger.jitter == 5, "the user's own trigger is left as it is"
    both = OrTrigger(
        [CronTrigger(second=0, timezone="UTC", jitter=5), CronTrigger(second=30, timezone="UTC")], jitter=2
    )
    assert jitter_of(describe(both, NOW)) == timedelta(seconds=7)


def test_an_offset_that_calls_itself_cet_has_no_summer_time() -> None:
    """The time zone database also has a CET, which is another zone."""
    built = again(CronTrigger(hour=12, timezone=timezone(timedelta(hours=1), "CET")))
    assert first_after(built, datetime(2026, 7, 1, tzinfo=UTC)) == datetime(2026, 7, 1, 11, tzinfo=UTC)


class CustomZone(tzinfo):
    """A time zone class of the application."""

    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def dst(self, when: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, when: datetime | None) -> str:
        return "homemade"


class CustomTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler 3 has no types
    """A custom trigger class without a text."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        return now.replace(microsecond=0) + timedelta(seconds=0 if now.microsecond == 0 else 1)


@pytest.mark.parametrize(
    ("make_trigger", "way_out"),
    [
        pytest.param(lambda: CronTrigger(hour=1, timezone=CustomZone()), "zoneinfo", id="a zone without a name"),
        pytest.param(lambda: IntervalTrigger(seconds=-1), "at least 0.001 s", id="an interval that goes back"),
        pytest.param(lambda: IntervalTrigger(seconds=1e-6), "at least 0.001 s, not 1e-06", id="one too short"),
        pytest.param(
            lambda: OrTrigger([CronTrigger(hour=1), IntervalTrigger(seconds=5)]),
            "a start_date",
            id="an open interval within",
        ),
        pytest.param(
            lambda: AndTrigger([CronTrigger(hour=1), DateTrigger()]), "a start_date", id="an open date within"
        ),
        pytest.param(
            lambda: OrTrigger([CalendarIntervalTrigger(days=2)]), "a start_date", id="an open calendarinterval within"
        ),
        pytest.param(lambda: OrTrigger([OrTrigger([IntervalTrigger(seconds=5)])]), "a start_date", id="deeper within"),
    ],
)
def test_what_would_differ_from_worker_to_worker_is_refused(
    make_trigger: Callable[[], BaseTrigger], way_out: str
) -> None:
    trigger = make_trigger()  # now, not at collection: its times read from the clock have to be recent
    with pytest.raises(JobDefinitionError, match=f"job 'job': .*{way_out}"):
        make_job(trigger)


def test_a_description_that_this_machine_cannot_build_is_none() -> None:
    """A leader with another time zone database, or another version of this package, continues with its other jobs."""
    good = describe(CronTrigger(hour=1, timezone=BERLIN), NOW)
    for change in ({"timezone": "Moon/Tycho"}, {"type": "lunar"}, {"fields": {"second": "noon"}}, {"unheard": 1}):
        assert build({**good, **change}, NOW) is None
    assert build({"type": "or", "triggers": [{**good, "timezone": "Moon/Tycho"}], "jitter": None}, NOW) is None


def test_a_trigger_class_of_the_users_own_is_told_by_its_text_alone() -> None:
    one, other = describe(CustomTrigger(), NOW), describe(CustomTrigger(), NOW)
    assert one == other, "no address of this process in it, or each takeover would see a changed trigger"
    assert one["type"] == "other"
    assert build(one, NOW) is None
    assert first_after(CustomTrigger(), at(0.5)) == at(1)


# --- what is left open -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trigger", "arguments"),
    [("interval", {"minutes": 10}), ("date", {}), ("calendarinterval", {"days": 2, "hour": 5})],
)
def test_an_open_start_is_anchored_to_the_first_registration(trigger: str, arguments: dict[str, int]) -> None:
    """docs/pitfalls.md#24: workers that start one after the other have the same phase."""
    description = make_job(trigger, **arguments).schedule
    assert description[{"date": "run_date"}.get(trigger, "start_date")] is None
    anchor = at(0.123456)
    expected = {
        "interval": anchor + timedelta(minutes=10),
        "date": anchor,
        "calendarinterval": datetime(2026, 3, 4, 5, tzinfo=UTC),
    }
    built = build(description, anchor)
    assert first_after(built, anchor - MICROSECOND) == expected[trigger]


@pytest.mark.parametrize(
    ("trigger", "arguments", "kept"),
    [
        ("interval", {"seconds": 10, "start_date": datetime(2026, 3, 2, 12, 0, 0, 5, tzinfo=UTC)}, "start_date"),
        ("date", {"run_date": datetime(2026, 3, 2, 12, 0, 0, 5, tzinfo=UTC)}, "run_date"),
        ("calendarinterval", {"days": 1, "start_date": date(2026, 3, 2)}, "start_date"),
    ],
)
def test_a_start_that_was_given_by_name_is_kept(trigger: str, arguments: dict[str, object], kept: str) -> None:
    description = make_job(trigger, **arguments).schedule
    assert description[kept] is not None


def test_a_start_that_was_given_to_an_instance_is_kept() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=30, microseconds=1)
    assert make_job(DateTrigger(soon)).schedule["run_date"] == soon.isoformat(), "in 30 s, not at once"
    later = IntervalTrigger(seconds=5, start_date=soon, timezone="UTC")
    assert make_job(later).schedule["start_date"] == soon.isoformat()
    calendar = CalendarIntervalTrigger(days=2, start_date=date(2020, 5, 17), timezone="UTC")
    assert make_job(calendar).schedule["start_date"] == "2020-05-17"


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata"])
def test_a_start_that_an_instance_took_from_the_clock_is_open(zone: str) -> None:
    assert make_job(IntervalTrigger(days=200, timezone=zone)).schedule["start_date"] is None
    assert make_job(IntervalTrigger(seconds=1, timezone=zone)).schedule["start_date"] is None
    assert make_job(DateTrigger(timezone=zone)).schedule["run_date"] is None
    assert make_job(CalendarIntervalTrigger(days=2, timezone=zone)).schedule["start_date"] is None


TWO_WORKERS = """
import json, sys
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from election.schedule.jobs import JobRegistry

class Own(CronTrigger.__mro__[1]):
    def get_next_fire_time(self, previous, now): ...

registry = JobRegistry({})
jobs = [
    registry.add(print, "interval", seconds=10, id="a"),
    registry.add(print, "date", id="b"),
    registry.add(print, "calendarinterval", days=1, id="c"),
    registry.add(print, "cron", second="*/2", jitter=3, id="d"),
    registry.add(print, IntervalTrigger(minutes=3), id="e"),
    registry.add(print, DateTrigger(), id="f"),
    registry.add(print, CalendarIntervalTrigger(weeks=1), id="g"),
    registry.add(print, CronTrigger.from_crontab("*/5 * * * *"), id="h"),
    registry.add(print, OrTrigger([CronTrigger(hour=1), IntervalTrigger(hours=1, start_date="2026-01-01")]), id="i"),
    registry.add(print, Own(), id="j"),
]
print(json.dumps({job.id: job.schedule for job in jobs}, sort_keys=True))
"""


def test_two_workers_describe_their_triggers_alike() -> None:
    """Two real interpreters; otherwise each takeover would see changed triggers, which start a new schedule."""
    workers = [
        subprocess.Popen([sys.executable, "-c", TWO_WORKERS], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    one, other = (worker.communicate(timeout=60)[0] for worker in workers)
    assert one == other
    described = json.loads(one)
    assert [described[job]["start_date"] for job in "aceg"] == [None] * 4
    assert [described[job]["run_date"] for job in "bf"] == [None] * 2


# --- ticks -----------------------------------------------------------------------------------------------------------


@given(
    seconds=st.one_of(
        st.sampled_from([0.1, 1 / 3, 0.7, 1e-3, 1e-6, 86400.000001]),
        st.floats(1e-6, 1e5, allow_nan=False),
        st.integers(1, 10**6),
    ),
    start=st.datetimes(datetime(1971, 1, 1), datetime(2070, 1, 1)),  # noqa: DTZ001  Hypothesis wants them so
    after=st.timedeltas(timedelta(0), timedelta(days=2000)),
)
def test_p3_an_interval_has_each_tick_once_however_it_is_asked(
    seconds: float, start: datetime, after: timedelta
) -> None:
    """Intervals are floats in APScheduler; the ticks are whole microseconds from the start, without exception."""
    interval = timedelta(seconds=seconds)
    if not interval:
        return
    trigger = IntervalTrigger(seconds=seconds, start_date=start.replace(tzinfo=UTC), timezone=UTC)
    found = some(trigger, trigger.start_date + after, 20)
    number = after // interval + 1
    assert found == [trigger.start_date + interval * (number + step) for step in range(20)]
    for due in found[1:]:
        assert first_after(trigger, due - MICROSECOND) == due


def test_an_interval_begins_at_its_start_and_ends_at_its_end() -> None:
    trigger = IntervalTrigger(seconds=10, start_date=at(100), end_date=at(120), timezone=UTC)
    assert some(trigger, NOW, 9) == [at(100), at(110), at(120)]


@pytest.mark.parametrize("zone", [BERLIN, LORD_HOWE, APIA, ZoneInfo("UTC")], ids=str)
@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        ({"days": 3, "hour": 12}, lambda day: day + timedelta(days=3)),
        ({"weeks": 2}, lambda day: day + timedelta(weeks=2)),
        ({"months": 2}, lambda day: date(day.year + (day.month + 1) // 12, (day.month + 1) % 12 + 1, day.day)),
        ({"years": 1, "days": 1}, lambda day: day.replace(year=day.year + 1) + timedelta(days=1)),
    ],
    ids=["days", "weeks", "months", "years"],
)
def test_the_dates_of_a_calendar_interval_are_steps_from_its_start(
    zone: ZoneInfo, arguments: dict[str, int], step: Callable[[date], date]
) -> None:
    trigger = CalendarIntervalTrigger(**arguments, start_date=date(2012, 3, 1), timezone=zone)
    found = list(ticks(trigger, datetime(2012, 2, 1, tzinfo=UTC), NOW))
    days = [due.astimezone(zone).date() for due in found]
    assert days[0] == date(2012, 3, 1)
    assert all(other == step(one) for one, other in pairwise(days))
    for due in found[-20:]:
        assert first_after(trigger, due - MICROSECOND) == due


def test_a_calendar_interval_leaves_out_the_months_without_its_day() -> None:
    trigger = CalendarIntervalTrigger(months=1, start_date=date(2026, 1, 31), timezone=BERLIN)
    days = [due.astimezone(BERLIN).date() for due in some(trigger, datetime(2026, 1, 1, tzinfo=UTC), 4)]
    assert days == [date(2026, month, 31) for month in (1, 3, 5, 7)]


def test_pitfall_29_a_calendar_interval_of_long_ago_is_not_walked_day_by_day() -> None:
    for arguments in ({"days": 1}, {"months": 1}):
        trigger = CalendarIntervalTrigger(**arguments, start_date=date(1970, 1, 1), timezone="UTC")
        assert len(list(takewhile(lambda day: day < NOW.date(), _calendar_dates(trigger, NOW.date())))) <= 2


@pytest.mark.parametrize(
    "make_trigger",
    [
        pytest.param(lambda: CronTrigger(month=2, day=30, timezone="UTC"), id="a date that does not exist"),
        pytest.param(lambda: CronTrigger(month=4, day="5th mon", week=1, timezone="UTC"), id="fields that contradict"),
        pytest.param(
            lambda: AndTrigger(
                [IntervalTrigger(days=1, start_date="2026-01-01 00:00:00.5", timezone="UTC"), CronTrigger(hour=0)]
            ),
            id="parts that never agree",
        ),
    ],
)
def test_a_trigger_that_never_fires_is_refused(make_trigger: Callable[[], BaseTrigger]) -> None:
    with pytest.raises(JobDefinitionError, match=r"job 'job': .*never run"):
        make_job(make_trigger())


def test_a_rare_date_is_found_and_a_search_of_400_years_ends() -> None:
    rare = CronTrigger(month=2, day=29, day_of_week="sun", timezone="UTC")
    assert first_after(rare, NOW) == datetime(2032, 2, 29, tzinfo=UTC)
    assert first_after(CronTrigger(year=2900, timezone="UTC"), NOW) == datetime(2900, 1, 1, tzinfo=UTC)
    assert first_after(CronTrigger(month=2, day=30, timezone=BERLIN), NOW) is None


def test_a_search_that_reaches_its_limit_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    class Slow(BaseTrigger):  # type: ignore[misc]
        def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
            return (previous_fire_time or at(-1_000_000)) + MICROSECOND

    assert first_after(Slow(), NOW) is None
    assert len(logged(caplog, "trigger_search_limit")) == 1


def test_utc_has_one_name_and_an_interval_has_no_zone() -> None:
    """docs/pitfalls.md#24: where no zone is configured, tzlocal returns UTC or Etc/UTC, by chance."""
    names = {describe(CronTrigger(hour=3, timezone=zone), NOW)["timezone"] for zone in ("UTC", "Etc/UTC", "Zulu")}
    assert names == {"UTC"}
    zones = (BERLIN, UTC, CustomZone())
    starts = [IntervalTrigger(seconds=5, start_date=NOW, timezone=zone) for zone in zones]
    assert {describe(trigger, NOW, False)["timezone"] for trigger in starts} == {"UTC"}


def test_a_zone_that_bears_the_name_of_another_is_refused() -> None:
    with Path("/usr/share/zoneinfo/Europe/Berlin").open("rb") as file:
        other = ZoneInfo.from_file(file, key="America/New_York")
    with pytest.raises(JobDefinitionError, match=r"America/New_York .*scheduler_options"):
        make_job(CronTrigger(hour=3, timezone=other))


@pytest.mark.parametrize("jitter", [None, 20])
def test_jitter_moves_no_calendar_date(jitter: int | None) -> None:
    """A tick that jitter moves past midnight still belongs to the day before."""
    trigger = CalendarIntervalTrigger(
        days=2, hour=23, minute=59, second=50, start_date=date(2026, 1, 1), timezone="UTC", jitter=jitter
    )
    planned = some(without_jitter(trigger), NOW, 30)
    assert [due.day % 2 for due in planned] != []
    for found, due in zip(some(trigger, NOW, 30), planned, strict=True):
        assert due <= found <= due + timedelta(seconds=jitter or 0)


def test_a_calendar_interval_and_a_cron_agree() -> None:
    """APScheduler loops for ever here: the first tick of a calendarinterval is always its start."""
    trigger = AndTrigger(
        [
            CalendarIntervalTrigger(days=1, hour=9, start_date=date(2026, 1, 1), timezone=BERLIN),
            CronTrigger(day_of_week="mon", hour="8-10", timezone=BERLIN),
        ]
    )
    assert some(trigger, NOW, 4) == [datetime(2026, 3, day, 8, tzinfo=UTC) for day in (9, 16, 23)] + [
        datetime(2026, 3, 30, 7, tzinfo=UTC)
    ]


def test_an_interval_and_a_cron_agree_again_and_again() -> None:
    trigger = AndTrigger(
        [IntervalTrigger(hours=1, start_date="2026-01-01", timezone="UTC"), CronTrigger(hour="9,17", timezone="UTC")]
    )
    assert [due.hour for due in some(trigger, NOW, 4)] == [17, 9, 17, 9]


@pytest.mark.timeout(60)
def test_what_never_agrees_has_no_ticks_and_does_not_hang() -> None:
    trigger = AndTrigger(
        [
            IntervalTrigger(days=1, start_date="2026-01-01 00:00:00.5", timezone="UTC"),
            CronTrigger(hour=0, timezone="UTC"),
        ]
    )
    assert first_after(trigger, NOW) is None


def test_the_parts_of_an_or_keep_their_own_phase() -> None:
    """APScheduler counts the interval from the part that fired last."""
    trigger = OrTrigger(
        [
            IntervalTrigger(minutes=7, start_date="2026-03-02 12:00:00", timezone="UTC"),
            CronTrigger(minute="*/10", timezone="UTC"),
        ]
    )
    assert [due.minute for due in some(trigger, NOW, 8)] == [7, 10, 14, 20, 21, 28, 30, 35]


def test_a_trigger_that_rounds_goes_on() -> None:
    class Rounding(BaseTrigger):  # type: ignore[misc]
        def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
            return (previous_fire_time or now).replace(second=0, microsecond=0) + timedelta(
                minutes=0 if previous_fire_time is None else 1
            )

    assert first_after(Rounding(), at(30)) == at(60)
    assert first_after(Rounding(), at(60)) == at(120)


def test_a_trigger_that_stands_still_does_not_hang_the_loop() -> None:
    class StuckTrigger(BaseTrigger):  # type: ignore[misc]
        def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
            return at(-60)

    assert first_after(StuckTrigger(), NOW) is None


@given(
    moment=st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    fields=st.fixed_dictionaries(
        {"second": st.sampled_from(["0", "*/7", "*"])},
        optional={"minute": st.sampled_from(["*/13", "59"]), "hour": st.sampled_from(["2", "1-3", "23"])},
    ),
    zone=st.sampled_from([BERLIN, LORD_HOWE, APIA, INDIA]),
)
def test_p3_the_next_tick_is_always_later(moment: datetime, fields: dict[str, str], zone: tzinfo) -> None:
    found = some(CronTrigger(**fields, timezone=zone), moment, 5)
    assert all(one < other for one, other in pairwise([moment, *found]))
    assert all(due.tzinfo is UTC for due in found)


def test_a_date_has_one_tick() -> None:
    trigger = DateTrigger(at(5))
    assert some(trigger, NOW, 3) == [at(5)]
    assert first_after(trigger, at(5)) is None


def test_to_look_for_the_next_tick_costs_one_question() -> None:
    trigger = CountingTrigger(CronTrigger(second="*", timezone="UTC"))
    assert len(some(trigger, NOW, 100)) == 100
    assert trigger.calls == 100


PROGRAM = """
from datetime import UTC, datetime, timedelta
from election.schedule.jobs import JobRegistry
from election.schedule.ticks import first_after
from election.schedule.triggers import build
job = JobRegistry({}).define(print, "cron", id="job", hour=12, timezone="Test/Zone")
now = datetime(2026, 7, 1, tzinfo=UTC)
print(job.schedule, first_after(build(job.schedule, now), now).isoformat(), sep="\\n")
"""


def test_a_zone_whose_rules_have_changed_is_the_same_schedule_with_other_ticks(tmp_path: Path) -> None:
    """Two trees of the time zone database, in which the zone has the rules of Berlin and of Lisbon."""
    found = []
    for rules in ("Europe/Berlin", "Europe/Lisbon"):
        with zone_file(rules).open("rb") as file:
            content = file.read()
        zone = tmp_path / rules / "Test/Zone"
        zone.parent.mkdir(parents=True)
        zone.write_bytes(content)
        environment = {**os.environ, "PYTHONTZPATH": str(tmp_path / rules), "PYTHONPATH": str(ROOT), "TZ": "UTC"}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
        )
        found.append(done.stdout.splitlines())
    (berlin, at_noon_in_berlin), (lisbon, at_noon_in_lisbon) = found
    assert berlin == lisbon
    assert (at_noon_in_berlin, at_noon_in_lisbon) == ("2026-07-01T10:00:00+00:00", "2026-07-01T11:00:00+00:00")


def zone_file(name: str) -> Path:
    """File of a zone in the machine's database, or in the package ``tzdata`` where there is none."""
    for tree in zoneinfo.TZPATH:
        if (Path(tree) / name).is_file():
            return Path(tree) / name
    package = importlib.util.find_spec("tzdata")
    assert package is not None, "no zone could be used on this machine"
    assert package.origin is not None
    return Path(package.origin).parent / "zoneinfo" / name


class Workdays(CronTrigger):  # type: ignore[misc]
    """A subclass with ticks of its own: it passes over the 25th of December."""

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        found: datetime | None = super().get_next_fire_time(previous, now)
        while found is not None and (found.month, found.day) == (12, 25):
            found = super().get_next_fire_time(found, found + timedelta(seconds=1))
        return found


def test_a_subclass_of_a_trigger_has_its_own_ticks() -> None:
    trigger = Workdays(hour=9, timezone="UTC")
    eve = datetime(2026, 12, 24, 12, tzinfo=UTC)
    assert first_after(trigger, eve) == datetime(2026, 12, 26, 9, tzinfo=UTC)
    assert describe(trigger, eve)["type"] == "other"
    assert first_after(without_jitter(with_seed(trigger, "job")), eve) == datetime(2026, 12, 26, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    "trigger",
    [
        IntervalTrigger(seconds=10, jitter=60, start_date=datetime(2026, 3, 2, tzinfo=UTC)),
        CronTrigger(second="*/10", jitter=60, timezone="UTC"),
        OrTrigger([CronTrigger(second="*/10", timezone="UTC")], jitter=60),
    ],
    ids=lambda trigger: type(trigger).__name__,
)
def test_p4_pitfall_44_no_jitter_passes_over_the_next_tick(trigger: BaseTrigger) -> None:
    begin = datetime(2026, 3, 2, 12, tzinfo=UTC)
    planned = list(ticks(without_jitter(trigger), begin, begin + timedelta(hours=1)))
    drawn = list(ticks(with_seed(trigger, "job"), begin, begin + timedelta(hours=1)))
    assert len(planned) == 360
    assert len(drawn) in {359, 360, 361}
    assert all(one < other for one, other in pairwise(drawn))


def test_p4_pitfall_44_the_parts_of_an_or_keep_the_ticks_that_wait_for_their_jitter() -> None:
    """The second part is due while ticks of the first still wait."""
    trigger = OrTrigger(
        [CronTrigger(minute=0, second=0, jitter=60, timezone="UTC"), CronTrigger(minute=0, second=30, timezone="UTC")]
    )
    begin = datetime(2026, 3, 2, 0, 30, tzinfo=UTC)
    assert len(list(ticks(with_seed(trigger, "job"), begin, begin + timedelta(hours=48)))) == 96


def test_pitfall_46_a_subclass_with_jitter_draws_the_same_moment_each_time() -> None:
    trigger = with_seed(Workdays(hour=9, jitter=600, timezone="UTC"), "job")
    eve = datetime(2026, 12, 24, 12, tzinfo=UTC)
    first, again = first_after(trigger, eve), first_after(trigger, eve)
    assert first == again
    assert first is not None
    assert timedelta(0) < first - datetime(2026, 12, 26, 9, tzinfo=UTC) < timedelta(seconds=600)


class Hours(IntervalTrigger):  # type: ignore[misc]
    """A subclass without anything of its own."""


class Once(DateTrigger):  # type: ignore[misc]
    """Another one."""


@pytest.mark.parametrize("trigger", [lambda: Hours(hours=24), Once], ids=["interval", "date"])
def test_a_subclass_needs_a_start_of_its_own(trigger: Callable[[], BaseTrigger]) -> None:
    """It cannot be anchored to the first registration: its ticks would begin anew with each process."""
    with pytest.raises(UnstableTriggerError, match="needs a start_date"):
        describe(trigger(), datetime.now(UTC))
    assert describe(Hours(hours=24, start_date="2026-03-02 09:00:00"), datetime.now(UTC))["type"] == "other"


@pytest.mark.parametrize("jitter", [None, 60])
def test_an_interval_may_be_longer_than_there_are_dates(jitter: int | None) -> None:
    """A usual way to say that a job runs on request only."""
    trigger = IntervalTrigger(days=365_000, jitter=jitter, start_date=NOW)
    assert first_after(trigger, NOW - timedelta(days=1)) is not None
    assert first_after(trigger, NOW + timedelta(days=1)) is not None
    far = IntervalTrigger(days=3_000_000, jitter=jitter, start_date=NOW)
    assert first_after(far, NOW - timedelta(days=1)) is not None
    assert first_after(far, NOW + timedelta(days=1)) is None


@pytest.mark.parametrize(
    ("known", "due"),
    [
        ({"until": at(-300)}, at(-240)),  # owed, whatever the time is
        ({"until": at(-300), "paused_at": at(-300)}, None),
        ({"until": at(-300), "paused_at": at(-300), "resume_at": at(-30)}, at(0)),
        ({"until": at(-300), "broken": "no module"}, None),
        ({"until": at(-300), "retired_at": NOW}, None),
    ],
)
def test_the_next_run_is_the_first_tick_that_is_not_settled(known: dict[str, Any], due: datetime | None) -> None:
    job = make_job("interval", seconds=60, start_date=at(-600))
    assert next_run_time(state_of(job, **known), job.trigger) == due
