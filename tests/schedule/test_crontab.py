"""Cron expressions against the independent cronsim and croniter, and against the text of crontab(5)."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from croniter import croniter
from cronsim import CronSim

from election import Election, JobDefinitionError
from election.schedule.crontab import MACROS, parse_crontab
from election.schedule.ticks import first_after, ticks
from election.schedule.triggers import build, describe, trigger_text
from tests.schedule.making import NOW

START = datetime(2026, 1, 1, tzinfo=UTC)


def _first(expression: str, count: int = 1, start: datetime = START) -> list[str]:
    """First ticks after ``start``, as weekday and time."""
    trigger = parse_crontab(expression, timezone=UTC)
    return [
        f"{due:%a %Y-%m-%d %H:%M:%S}" for due in islice(ticks(trigger, start, datetime(2040, 1, 1, tzinfo=UTC)), count)
    ]


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("0 9 * * 1", "Mon 2026-01-05 09:00:00"),
        ("0 9 * * mon", "Mon 2026-01-05 09:00:00"),
        ("0 9 * * MON-FRI", "Thu 2026-01-01 09:00:00"),
        ("0 9 * * 0", "Sun 2026-01-04 09:00:00"),
        ("0 9 * * 7", "Sun 2026-01-04 09:00:00"),
        ("0 9 * * 5-7", "Fri 2026-01-02 09:00:00"),
        ("0 9 * * 6,7", "Sat 2026-01-03 09:00:00"),
        ("30 4 1,15 * 5", "Thu 2026-01-01 04:30:00"),
        ("0 0 13 * fri", "Fri 2026-01-02 00:00:00"),
        ("0 0 */2 * fri", "Fri 2026-01-09 00:00:00"),
        ("0 12 L * *", "Sat 2026-01-31 12:00:00"),
        ("0 12 * * fri#2", "Fri 2026-01-09 12:00:00"),
        ("0 12 * * 5L", "Fri 2026-01-30 12:00:00"),
        ("0 12 * feb-mar *", "Sun 2026-02-01 12:00:00"),
        ("0 0 29 2 *", "Tue 2028-02-29 00:00:00"),
        ("*/15 * * * * *", "Thu 2026-01-01 00:00:15"),
        ("30 0 12 * * *", "Thu 2026-01-01 12:00:30"),
        ("@daily", "Fri 2026-01-02 00:00:00"),
        ("@Weekly", "Sun 2026-01-04 00:00:00"),
        (" @hourly ", "Thu 2026-01-01 01:00:00"),
    ],
)
def test_the_first_tick(expression: str, first: str) -> None:
    assert _first(expression) == [first]


def test_either_day_counts_if_both_are_restricted() -> None:
    """crontab(5): "30 4 1,15 * 5" runs on the 1st and 15th of each month, plus every Friday."""
    assert [each[:14] for each in _first("30 4 1,15 * 5", 5)] == [
        "Thu 2026-01-01", "Fri 2026-01-02", "Fri 2026-01-09", "Thu 2026-01-15", "Fri 2026-01-16",
    ]  # fmt: skip


def _random_expression(rng: random.Random) -> str:
    def field(low: int, high: int, names: str = "") -> str:
        first, last = sorted(rng.sample(range(low, high + 1), 2))
        named = names.split()
        choices = ["*", "*", str(first), f"{first},{last}", f"{first}-{last}", f"*/{rng.choice([2, 3, 5])}"]
        if last - first > 3:
            choices.append(f"{first}-{last}/2")
        if named:
            choices += [named[first - low], f"{named[first - low]}-{named[last - low]}"]
        return rng.choice(choices)

    months = "jan feb mar apr may jun jul aug sep oct nov dec"
    day = rng.choice([field(1, 28), "*", "*", "L"])
    weekday = rng.choice([field(0, 6, "sun mon tue wed thu fri sat"), "7", "*", "*", "mon#1", "fri#3"])
    if "#" in weekday and day.startswith("*/"):
        day = "*"  # refused
    return " ".join([field(0, 59), field(0, 23), day, field(1, 12, months), weekday])


@pytest.mark.parametrize("seed", range(20))
def test_random_expressions_agree_with_cronsim_and_croniter(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(25):
        expression = _random_expression(rng)
        _, _, day, _, weekday = expression.split()
        start = START + timedelta(days=rng.randrange(365))
        found = list(islice(ticks(parse_crontab(expression, timezone=UTC), start, start + timedelta(days=9000)), 5))
        assert found == list(islice(CronSim(expression, start), 5)), expression
        if day != "*" and ("#" in weekday or day == "L" != weekday != "*"):
            continue  # croniter joins the two with "and", or finds no date
        day_or = not day.startswith("*/") and not weekday.startswith("*/")  # crontab(5); an option of croniter
        other = croniter(expression, start, day_or=day_or, ret_type=datetime)
        assert found == [other.get_next() for _ in range(5)], expression


@pytest.mark.parametrize("expression", [*MACROS, "0 9 * * 1", "*/5 * * * *", "30 4 1,15 * 5", "0 12 L * fri#2,mon"])
def test_it_is_kept_in_the_ledger_like_any_cron_trigger(expression: str) -> None:
    trigger = parse_crontab(expression, timezone=ZoneInfo("Europe/Berlin"))
    built = build(describe(trigger, NOW), NOW)
    assert built is not None
    assert list(islice(ticks(built, START, datetime(2030, 1, 1, tzinfo=UTC)), 20)) == list(
        islice(ticks(trigger, START, datetime(2030, 1, 1, tzinfo=UTC)), 20)
    )


def test_what_recurs_goes_by_elapsed_time_and_fixed_times_do_not() -> None:
    """On the day on which the clocks go back, in Berlin."""
    berlin = ZoneInfo("Europe/Berlin")
    start = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)
    every = parse_crontab("*/30 * * * *", timezone=berlin)
    fixed = parse_crontab("30 2 * * *", timezone=berlin)
    assert len(list(ticks(every, start, start + timedelta(hours=3)))) == 6
    assert len(list(ticks(fixed, start - timedelta(hours=1), start + timedelta(hours=12)))) == 1


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "it has 0 fields, and five are needed"),
        ("* * * *", "it has 4 fields"),
        ("* * * * * * *", "it has 7 fields"),
        ("61 * * * *", "Bad minute"),
        ("* 24 * * *", "Bad hour"),
        ("* * 0 * *", "Bad day-of-month"),
        ("* * * 13 *", "Bad month"),
        ("* * * * 8", "Bad day-of-week"),
        ("* * * * fri-mon", "Bad day-of-week"),
        ("*/0 * * * *", "Bad minute"),
        ("a b c d e", "Bad minute"),
        ("0 0 LW * *", "not supported"),
        ("0 0 */2 * fri#1", "cannot be combined"),
        ("@reboot", "while_leading"),
        ("@fortnightly", "there are @yearly"),
        ("0 0 31 2 *", "Bad day-of-month"),
    ],
)
def test_what_is_no_expression_is_refused_at_registration(expression: str, reason: str) -> None:
    election = Election("unused", scheduler_options={"timezone": "UTC"})
    with pytest.raises(JobDefinitionError, match=reason):
        election.scheduled_job("crontab", expression, id="job")(print)


@pytest.mark.parametrize(
    ("trigger", "arguments", "reason"),
    [
        ("crontab", {}, "needs an expression"),
        ("cron", {"expression": "0 9 * * 1"}, 'only the trigger "crontab"'),
        ("crontab", {"expression": "0 9 * * 1", "hour": 3}, "hour"),
        ("crontab", {"expression": "0 9 * * 1", "jitter": -1}, "jitter"),
    ],
)
def test_wrong_arguments_are_refused(trigger: str, arguments: dict[str, object], reason: str) -> None:
    election = Election("unused", scheduler_options={"timezone": "UTC"})
    with pytest.raises(JobDefinitionError, match=reason):
        election.scheduled_job(trigger, id="job", **arguments)(print)


def test_the_zone_is_that_of_the_scheduler_unless_given() -> None:
    election = Election("unused", scheduler_options={"timezone": "Asia/Tokyo"})
    election.scheduled_job("crontab", "0 9 * * *", id="there")(print)
    election.scheduled_job("crontab", "0 9 * * *", id="here", timezone="Europe/Berlin", jitter=5)(print)
    there, here = election._jobs
    assert (there.schedule["timezone"], here.schedule["timezone"]) == ("Asia/Tokyo", "Europe/Berlin")
    assert here.schedule["jitter"] == 5


# --- weekdays in words ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trigger", "text"),
    [
        (CronTrigger(day_of_week="0", hour=9), "cron[day_of_week='mon', hour='9']"),
        (CronTrigger(day_of_week="1-5"), "cron[day_of_week='tue-sat']"),
        (CronTrigger(day_of_week="0-4/2,6"), "cron[day_of_week='mon-fri/2,sun']"),
        (CronTrigger(day_of_week="*/2"), "cron[day_of_week='*/2']"),
        (CronTrigger(day_of_week="mon", day="1"), "cron[day='1', day_of_week='mon']"),
        (OrTrigger([CronTrigger(day_of_week="6"), CronTrigger(day=1)]), "or[cron[day_of_week='sun'], cron[day='1']]"),
    ],
)
def test_weekdays_have_names_where_people_read_them(trigger: BaseTrigger, text: str) -> None:
    assert trigger_text(trigger) == text
    assert first_after(trigger, START) is not None
