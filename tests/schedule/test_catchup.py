"""Catch-up of a job after a time without a leader: bounded before it is enumerated, nothing unexplained (P4,
docs/pitfalls.md#29).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from apscheduler.job import Job as SchedulerJob
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import given
from hypothesis import strategies as st

from election.schedule import catchup
from election.schedule.catchup import CatchUp, catch_up, owes_from, skipped
from election.schedule.commands import Skip
from election.schedule.model import SkipReason
from election.schedule.progress import JobProgress, Jump
from election.schedule.scheduler_adapter import PureTrigger
from election.schedule.ticks import first_after, max_jitter, ticks, with_seed, without_jitter
from tests.schedule.making import NOW, CountingTrigger, at, make_job

HOUR, DAY = 3600, 86400
SECONDS = IntervalTrigger(seconds=1, start_date=at(-400 * DAY), timezone=UTC)
CRON = CronTrigger(second="*", timezone=UTC)


def caught(
    trigger: BaseTrigger, down: float, *, grace: float | None = None, limit: int = 1000, now: datetime = NOW
) -> CatchUp:
    """Catch-up of a job that was settled until ``down`` seconds ago."""
    return catch_up(
        "job",
        trigger,
        settled_until=now - timedelta(seconds=down),
        now=now,
        misfire_grace_time=grace,
        limit=limit,
    )


def down(first: float, last: float, count: int | None) -> Skip:
    return Skip("job", at(first), at(last), count, SkipReason.DOWN, NOW)


# --- grace and limit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds_down", "grace", "limit", "next_due", "skip"),
    [
        pytest.param(0, 30, 1000, 1, None, id="nothing owed"),
        pytest.param(0.5, 30, 1000, 0, None, id="one owed, this instant"),
        pytest.param(5, 30, 1000, -4, None, id="a short vacancy: tick by tick"),
        pytest.param(9, 1, 1000, -8, None, id="so short that the policy tells what misfired"),
        pytest.param(60, 30, 1000, -29, down(-59, -30, 30), id="what is beyond its grace is given up"),
        pytest.param(60, 60, 1000, -59, None, id="all within its grace"),
        pytest.param(60, None, 1000, -59, None, id="no grace limit"),
        pytest.param(60, 10**18, 1000, -59, None, id="a grace beyond all calendars"),
        pytest.param(200, 1, 1000, 0, down(-199, -1, None), id="too many to count"),
        pytest.param(130, 30, 1000, -29, down(-129, -30, 100), id="as many as are counted"),
        pytest.param(60, None, 60, -59, None, id="exactly the limit"),
        pytest.param(60, None, 59, -31, down(-59, -32, 28), id="one more than the limit: about half of it is left"),
        pytest.param(60, 30, 8, -7, down(-59, -8, 52), id="grace and limit"),
        pytest.param(8, None, 4, -3, down(-7, -4, 4), id="the limit holds in a short vacancy too"),
        pytest.param(8, None, 1, 0, down(-7, -1, 7), id="a limit of one"),
    ],
)
def test_grace_and_limit(
    seconds_down: float, grace: float | None, limit: int, next_due: float, skip: Skip | None
) -> None:
    result = caught(SECONDS, seconds_down, grace=grace, limit=limit)
    assert result == CatchUp(at(next_due), skip)


def test_a_job_that_has_ended_has_no_next_tick() -> None:
    trigger = IntervalTrigger(seconds=1, start_date=at(-60), end_date=at(-40), timezone=UTC)
    assert caught(trigger, 60, grace=30) == CatchUp(None, down(-59, -40, 20))


@pytest.mark.parametrize(
    ("run_date", "grace", "next_due", "skip"),
    [
        (at(5), 30, at(5), None),
        (at(-5), 30, at(-5), None),
        (at(-25), 30, at(-25), None),
        (at(-35), 30, None, down(-35, -35, 1)),
        (at(-5 * DAY), None, at(-5 * DAY), None),
    ],
)
def test_a_date_whose_moment_fell_into_the_vacancy(
    run_date: datetime, grace: float | None, next_due: datetime | None, skip: Skip | None
) -> None:
    assert caught(DateTrigger(run_date), 10 * DAY, grace=grace) == CatchUp(next_due, skip)


def test_a_date_is_owed_even_if_its_moment_has_just_passed() -> None:
    for run_date in (at(-5), at(5)):
        since = owes_from(DateTrigger(run_date), NOW)
        assert since < run_date
        assert since <= NOW
    assert owes_from(CRON, NOW) == NOW


@pytest.mark.parametrize("seconds_down", [0.5, 20, 10 * DAY])
def test_p6_a_job_that_owes_nothing_is_looked_at_once(seconds_down: float) -> None:
    """A takeover with a thousand jobs takes this a thousand times."""
    trigger = CountingTrigger(IntervalTrigger(seconds=1, start_date=at(5), timezone=UTC))
    assert caught(trigger, seconds_down, grace=30) == CatchUp(at(5), None)
    assert trigger.calls == 1


@pytest.mark.parametrize("seconds_down", [0.5, 20, 10 * DAY])
def test_a_tick_to_come_has_its_jitter_though_nothing_is_owed(seconds_down: float) -> None:
    trigger = IntervalTrigger(seconds=1, start_date=at(5), jitter=3, timezone=UTC)
    seeded = [with_seed(trigger, f"job-{number}") for number in range(20)]
    found = {caught(each, seconds_down, grace=30).next_due for each in seeded}
    assert found == {caught(each, seconds_down, grace=30).next_due for each in seeded}, "always the same"
    assert len(found) > 15, "another one for each job"
    assert all(due is not None and at(5) <= due <= at(8) for due in found)


@pytest.mark.parametrize("grace", [1, 30, None])
def test_pitfall_46_a_tick_that_waits_for_its_jitter_is_not_late(grace: float | None) -> None:
    """At any moment while the tick waits and during its grace after that."""
    trigger = with_seed(IntervalTrigger(hours=1, start_date=at(5), jitter=600, timezone=UTC), "job")
    due = first_after(trigger, NOW)
    assert due is not None
    assert due > at(60)
    for seconds in range(0, int((due - NOW).total_seconds()), 7):
        found = catch_up("job", trigger, settled_until=NOW, now=at(seconds), misfire_grace_time=grace, limit=5)
        assert found == CatchUp(due, None)


def test_the_parts_of_a_combined_trigger_have_their_own_jitter() -> None:
    """The user's trigger is unchanged."""
    part = CronTrigger(minute=0, jitter=600, timezone=UTC)
    both = OrTrigger([part, CronTrigger(minute=0, jitter=600, timezone=UTC)], jitter=5)
    seeded = with_seed(both, "job")
    assert max_jitter(seeded) == timedelta(seconds=605)
    assert seeded.triggers[0] is not part
    assert len({first_after(each, NOW) for each in seeded.triggers}) == 2
    assert with_seed(SECONDS, "job") is SECONDS


# --- bounded ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grace", [None, 30, HOUR])
@pytest.mark.parametrize("make", [lambda: CRON, lambda: SECONDS], ids=["cron", "interval"])
def test_pitfall_29_a_month_of_downtime_takes_no_longer_than_an_hour(
    make: Callable[[], BaseTrigger], grace: float | None
) -> None:
    def calls(seconds: float) -> int:
        trigger = CountingTrigger(make())
        result = caught(trigger, seconds, grace=grace, limit=500)
        assert result.next_due is not None
        assert result.skip is not None
        return trigger.calls

    hour, month = calls(HOUR + 1), calls(30 * DAY)
    assert month <= hour + 200, "the first hundred of what is given up are counted; nothing else grows"
    assert month < 4000


@given(
    period=st.integers(1, 100),
    seconds_down=st.integers(0, 4000),
    grace=st.one_of(st.none(), st.integers(1, 5000)),
    limit=st.integers(1, 50),
    jitter=st.sampled_from([None, None, 3, 200]),
)
def test_p4_what_is_skipped_and_what_is_next_cover_all_that_is_owed(
    period: int, seconds_down: int, grace: int | None, limit: int, jitter: int | None
) -> None:
    """Every tick between the last settled one and the next is skipped or handed over."""
    trigger = IntervalTrigger(seconds=period, start_date=at(-(10**6)), timezone=UTC, jitter=jitter)
    result = caught(trigger, seconds_down, grace=grace, limit=limit)
    planned = without_jitter(trigger)
    owed = list(ticks(planned, NOW - timedelta(seconds=seconds_down), NOW))
    given_up = [due for due in owed if result.skip and result.skip.first_due <= due <= result.skip.last_due]
    left = owed[len(given_up) :]
    assert owed[: len(given_up)] == given_up
    assert result.next_due is not None
    next_planned = left[0] if left else next(ticks(planned, NOW, at(10**6)))
    assert next_planned <= result.next_due <= next_planned + timedelta(seconds=jitter or 0)
    assert len(left) <= limit or result.next_due > NOW, "or the first of them still waits for its jitter"
    if result.skip is not None:
        assert result.skip.first_due == given_up[0]
        assert result.skip.count in {len(given_up), None}
        assert result.skip.count is not None or len(given_up) > catchup.MAX_COUNTED_TICKS
        assert result.skip.last_due < next_planned
    if seconds_down <= 10:
        assert len(left) == min(len(owed), limit) or len(owed) > limit
    elif grace is not None:
        assert all(NOW - due <= timedelta(seconds=grace + (jitter or 0)) for due in left)


@pytest.mark.parametrize(
    "trigger",
    [
        CronTrigger(second="*/10", timezone=UTC, jitter=9),
        CalendarIntervalTrigger(days=1, start_date="2025-01-01", timezone=UTC, jitter=50000),
        OrTrigger([CronTrigger(second="*/20", timezone=UTC, jitter=15), CronTrigger(second="7", timezone=UTC)]),
    ],
    ids=str,
)
def test_p4_jitter_hides_no_tick_between_the_skip_and_the_next(trigger: BaseTrigger) -> None:
    """A tick planned just before the cut, and moved past it by jitter, belonged to neither side."""
    planned = without_jitter(trigger)
    for offset in range(0, 60, 3):
        now = at(offset)
        result = caught(trigger, 3 * DAY, grace=20, now=now)
        assert result.skip is not None
        assert result.next_due is not None
        owed = list(ticks(planned, result.skip.last_due, result.next_due))
        oldest = now - timedelta(seconds=20) - max_jitter(trigger)
        assert len(owed) <= 3 or owed[0] >= oldest
        before = [due for due in owed if due <= oldest]
        assert before == []


@pytest.mark.parametrize(("seconds", "count"), [(1, 1), (100, 100), (101, None), (30 * DAY, None)])
def test_a_skip_is_counted_as_long_as_that_is_cheap(seconds: int, count: int | None) -> None:
    skip = skipped("job", SECONDS, at(-seconds), NOW, NOW, SkipReason.PAUSED)
    assert skip == Skip("job", at(-seconds + 1), NOW, count, SkipReason.PAUSED, NOW)


def test_no_ticks_are_no_skip() -> None:
    assert skipped("job", CRON, at(0.1), at(0.9), NOW, SkipReason.DOWN) is None
    assert skipped("job", DateTrigger(at(-5)), at(-5), NOW, NOW, SkipReason.DOWN) is None


# --- a scheduler that wakes late -------------------------------------------------------------------------------------


def steady(trigger: BaseTrigger, *, grace: int | None, limit: int = 1000) -> tuple[PureTrigger, JobProgress]:
    """A trigger as the scheduler of a term uses it, and the progress of its job."""
    progress = JobProgress(make_job(misfire_grace_time=grace, seconds=1))
    return PureTrigger(trigger, progress, limit), progress


def handed_over(trigger: PureTrigger, next_run_time: datetime, now: datetime) -> list[datetime]:
    """Ticks by APScheduler's own code at ``now``."""
    job = SchedulerJob.__new__(SchedulerJob)
    job._jobstore_alias = None
    job.trigger, job.next_run_time = trigger, next_run_time
    times: list[datetime] = job._get_run_times(now)
    return times


def test_in_time_a_tick_follows_the_last_one_whatever_the_clock_says() -> None:
    """docs/pitfalls.md#26: after a backward step of the clock, the same request gets the next tick."""
    trigger, _ = steady(CRON, grace=30)
    for now in (at(0.01), at(-3600), at(0.02), at(5)):
        assert trigger.get_next_fire_time(NOW, now) == at(1)


def test_pitfall_25_each_tick_of_a_short_delay_is_handed_over() -> None:
    trigger, _ = steady(CRON, grace=1)
    assert handed_over(trigger, NOW, at(4.5)) == [at(0), at(1), at(2), at(3), at(4)]


@pytest.mark.parametrize(("grace", "limit"), [(30, 1000), (None, 200), (HOUR, 200)])
def test_pitfall_29_a_machine_that_slept_for_a_month_is_not_asked_tick_by_tick(grace: int | None, limit: int) -> None:
    counting = CountingTrigger(CRON)
    trigger, progress = steady(counting, grace=grace, limit=limit)
    now = at(30 * DAY)
    times = handed_over(trigger, NOW, now)
    following = trigger.get_next_fire_time(times[-1], now)
    assert times[0] == NOW
    assert 2 <= len(times) <= limit + 1
    assert times[-1] == now
    assert following == now + timedelta(seconds=1)
    assert progress.jump == Jump(counting, NOW, times[1] - timedelta(seconds=1))
    assert counting.calls < 10 * limit + 100, "one look over the last ticks, not one for each of them"


def test_a_look_at_the_same_tick_later_leaps_again() -> None:
    trigger, progress = steady(CRON, grace=30)
    assert trigger.get_next_fire_time(NOW, at(0.1)) == at(1)
    assert progress.jump is None
    assert trigger.get_next_fire_time(at(1), at(HOUR)) == at(HOUR - 29)
    assert progress.jump == Jump(CRON, at(1), at(HOUR - 30))
    assert trigger.get_next_fire_time(at(HOUR - 29), at(HOUR)) == at(HOUR - 28)
    assert trigger.get_next_fire_time(at(HOUR - 28), at(3 * HOUR)) == at(3 * HOUR - 29)
    assert progress.jump == Jump(CRON, at(HOUR - 28), at(3 * HOUR - 30))


@pytest.mark.parametrize(
    ("now", "first"),
    [
        pytest.param(
            datetime(2026, 3, 29, 1, 10, tzinfo=UTC), datetime(2026, 3, 29, 0, 10, 1, tzinfo=UTC), id="spring"
        ),
        pytest.param(
            datetime(2026, 10, 25, 1, 10, tzinfo=UTC), datetime(2026, 10, 25, 0, 10, 1, tzinfo=UTC), id="fall"
        ),
    ],
)
def test_the_grace_time_is_real_time_where_clocks_change(now: datetime, first: datetime) -> None:
    """APScheduler's scheduler uses its own time zone, in which "an hour ago" is ambiguous on that day."""
    trigger, _ = steady(CRON, grace=HOUR, limit=10**5)
    asked = now.astimezone(ZoneInfo("Europe/Berlin"))
    assert trigger.get_next_fire_time(datetime(2026, 3, 1, tzinfo=UTC), asked) == first
