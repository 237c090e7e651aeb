"""The registry of jobs: APScheduler's arguments, errors with a remedy, ids that all processes share."""

from __future__ import annotations

import functools
import json
import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from numbers import Integral
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from election import ConfigurationError, Election, JobDefinitionError
from election.core.callables import is_coroutine_function
from election.core.numbers import MOST
from election.engines.redis.commands import flat
from election.schedule.jobs import MISFIRE_GRACE_S, JobRegistry
from election.testing import always_leader

HERE = __name__


async def report(number: int = 1) -> None: ...


def clean_up(path: str) -> None: ...


class Mail:
    def send(self) -> None: ...

    @classmethod
    def flush(cls) -> None: ...

    async def __call__(self) -> None: ...


@pytest.fixture
def registry() -> JobRegistry:
    return JobRegistry({})


# --- what is registered -------------------------------------------------------------------------------------------


def test_a_job_has_the_arguments_it_was_given(registry: JobRegistry) -> None:
    """APScheduler's own arguments make up the policy."""
    job = registry.add(
        clean_up, "interval", seconds=5, id="clean", name="cleaning", args=["/var/x"],
        coalesce=False, max_instances=3, misfire_grace_time=None,
    )  # fmt: skip
    assert list(registry) == [job]
    assert (job.id, job.name, job.args, job.kwargs) == ("clean", "cleaning", ("/var/x",), {})
    assert (job.coalesce, job.max_instances, job.misfire_grace_time) == (False, 3, None)
    assert str(job.trigger) == "interval[0:00:05]"
    assert job.func is clean_up


def test_what_is_not_given_has_defaults_and_one_of_them_is_ours(registry: JobRegistry) -> None:
    """docs/pitfalls.md#25: APScheduler's own grace of one second loses ticks silently."""
    job = registry.add(report, "interval", seconds=5)
    assert (job.coalesce, job.max_instances, job.misfire_grace_time) == (True, 1, MISFIRE_GRACE_S) == (True, 1, 30)


def test_the_schedulers_options_are_the_jobs_defaults() -> None:
    """And arguments of the job take precedence."""
    registry = JobRegistry({"timezone": "Asia/Tokyo", "job_defaults": {"coalesce": False, "misfire_grace_time": 5}})
    job = registry.add(report, "cron", hour=3)
    other = registry.add(report, "cron", hour=3, id="other", misfire_grace_time=7, timezone="Europe/Berlin")
    assert (job.coalesce, job.max_instances, job.misfire_grace_time) == (False, 1, 5)
    assert (other.coalesce, other.misfire_grace_time) == (False, 7)
    own = JobRegistry({"job_defaults": {"retries": 3, "timeout": 60.0}})
    assert [
        own.add(report, "cron", hour=3).retries,
        own.add(report, "cron", hour=3, id="other", retries=0).retries,
    ] == [3, 0]
    assert job.trigger.timezone == ZoneInfo("Asia/Tokyo")
    assert other.trigger.timezone == ZoneInfo("Europe/Berlin")


def test_jobs_keep_the_order_of_their_registration(registry: JobRegistry) -> None:
    for name in "cab":
        registry.add(report, "interval", seconds=1, id=name)
    assert [job.id for job in registry] == ["c", "a", "b"]


def test_a_trigger_can_be_an_object(registry: JobRegistry) -> None:
    trigger = IntervalTrigger(minutes=1)
    assert registry.add(report, trigger).trigger is trigger


def test_registering_starts_nothing(registry: JobRegistry) -> None:
    """P7 and docs/pitfalls.md#17: a worker that registers jobs at import holds no thread afterwards."""
    before = set(threading.enumerate())
    registry.add(report, "interval", seconds=1)
    assert set(threading.enumerate()) <= before


# --- ids ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (report, "report"),
        (functools.partial(report, 2), "report"),
        (functools.partial(functools.partial(report), 2), "report"),
        (Mail().send, "Mail.send"),
        (Mail.flush, "Mail.flush"),
        (lambda: None, "<lambda>"),
    ],
    ids=["function", "partial", "partial of a partial", "method", "class method", "lambda"],
)
def test_an_id_is_the_same_in_every_process(registry: JobRegistry, func: Callable[..., Any], name: str) -> None:
    """P3: the id identifies ticks, so it is made of names, never of addresses."""
    assert registry.add(func, "interval", seconds=1).id == f"{HERE}:{name}"


@pytest.mark.parametrize("func", [Mail(), functools.partial(Mail())], ids=["object", "partial of an object"])
def test_what_has_no_name_needs_an_id(registry: JobRegistry, func: Callable[..., Any]) -> None:
    with pytest.raises(JobDefinitionError, match="give an id: id="):
        registry.add(func, "interval", seconds=1)
    assert registry.add(func, "interval", seconds=1, id="mail").id == "mail"


def test_two_lambdas_cannot_be_told_apart(registry: JobRegistry) -> None:
    """P3: they would share their ticks, and one of them would run those of the other."""
    registry.add(lambda: 1, "interval", seconds=1)
    with pytest.raises(JobDefinitionError, match=r"<lambda>.*already.*id="):
        registry.add(lambda: 2, "interval", seconds=1)


def test_an_id_is_taken_once(registry: JobRegistry) -> None:
    """A duplicate id is an error with a remedy, and the first job stays."""
    first = registry.add(report, "interval", seconds=1)
    here = r"at .*test_jobs\.py:\d+"
    with pytest.raises(JobDefinitionError, match=rf"'{HERE}:report' already, registered {here}; .*{here}, .* id="):
        registry.add(report, "cron", hour=3)
    assert list(registry) == [first]
    registry.add(report, "cron", hour=3, id="nightly")
    with pytest.raises(JobDefinitionError, match="'nightly' already"):
        registry.add(clean_up, "cron", hour=3, id="nightly", args=["x"])


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("func", "trigger", "arguments", "words"),
    [
        (report, "sometimes", {}, "sometimes"),
        (report, "interval", {"secnods": 1}, "secnods"),
        (report, "interval", {"seconds": 1, "misfire_grace": 1}, "misfire_grace"),
        (report, "cron", {"second": "0-90"}, "90"),
        (report, "cron", {"hour": 3, "timezone": "Mars/Phobos"}, "Mars"),
        (report, "interval", {"seconds": 1, "max_instances": 0}, "max_instances"),
        (report, "interval", {"seconds": 1, "misfire_grace_time": -1}, "misfire_grace_time"),
        (report, "interval", {"seconds": 1, "kwargs": {"nmuber": 1}}, "nmuber"),
        (clean_up, "interval", {"seconds": 1}, "path"),
        (report, 7, {}, "needs a trigger"),
        ("not a function", "interval", {"seconds": 1}, "no function"),
        ("not a function", "interval", {"seconds": 1, "id": "x"}, "reference"),
    ],
)
def test_what_apscheduler_refuses_is_refused_at_once(
    registry: JobRegistry, func: Any, trigger: Any, arguments: dict[str, Any], words: str
) -> None:
    """At registration in every worker, not in the leader's first second."""
    with pytest.raises(JobDefinitionError, match=words) as refused:
        registry.add(func, trigger, **arguments)
    assert isinstance(refused.value, ConfigurationError)
    assert list(registry) == []


@pytest.mark.parametrize("name", ["next_run_time", "jobstore", "executor", "replace_existing"])
@pytest.mark.parametrize("value", [None, False, "default"])
def test_what_cannot_work_in_a_pool_is_refused(registry: JobRegistry, name: str, value: object) -> None:
    """The scheduler of a term has our executor and no store; the error gives the reason."""
    with pytest.raises(JobDefinitionError, match=f"'{HERE}:report': {name} cannot be given: .+"):
        registry.add(report, "interval", seconds=1, **{name: value})
    assert list(registry) == []


async def _wait_for_nothing() -> None: ...


@pytest.mark.anyio
async def test_registration_ends_with_the_start() -> None:
    """A job in only one worker would end with its term; the same for tasks."""
    election = Election("not/used")
    with always_leader(election):
        async with election:
            with pytest.raises(JobDefinitionError, match="module level"):
                election.scheduled_job("interval", seconds=1)
            with pytest.raises(JobDefinitionError, match="module level"):
                election.while_leading(_wait_for_nothing)


# --- coroutines and threads ---------------------------------------------------------------------------------------


NUMBERS = {
    "retries": 0, "max_reruns": 0, "failing_after": 1,
    "retry_backoff": 0.0, "timeout": 0.1, "late_after": 0.1, "expected": 0.1,
}  # fmt: skip
"""Numbers of a job, and a small one that is possible."""


@pytest.mark.parametrize("wrong", [math.nan, -1, "3", timedelta(seconds=3)])
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_number_is_refused(registry: JobRegistry, name: str, wrong: object) -> None:
    """NaN passes each comparison, and puts the timers of the event loop out of order."""
    registry.add(report, "cron", hour=3, id="good", **{name: NUMBERS[name]})
    with pytest.raises(JobDefinitionError, match=rf"^job 'bad': {name} is a (whole )?number"):
        registry.add(report, "cron", hour=3, id="bad", **{name: wrong})


class Three:
    """An integer of another kind, as those of numpy."""

    def __index__(self) -> int:
        return 3

    def __float__(self) -> float:
        return 3.0

    def __lt__(self, other: float) -> bool:
        return other > 3

    def __gt__(self, other: float) -> bool:
        return other < 3


Integral.register(Three)

TIMES: dict[Any, dict[str, int]] = {CronTrigger: {"hour": 3}, IntervalTrigger: {"seconds": 9}}


def any_of(**arguments: Any) -> BaseTrigger:
    return OrTrigger([CronTrigger(**arguments)])


@pytest.mark.parametrize(
    ("given", "written"), [(Decimal("1.5"), 1.5), (Fraction(3, 2), 1.5), (Three(), 3), (2, 2), (2.0, 2.0)]
)
@pytest.mark.parametrize("make", [CronTrigger, IntervalTrigger, any_of])
def test_the_jitter_of_a_trigger_is_written_as_a_number(
    registry: JobRegistry, make: Callable[..., BaseTrigger], given: Any, written: float
) -> None:
    """A description that is no JSON kept every job of the pool from being planned (docs/pitfalls.md#63)."""
    schedule = registry.add(report, make(jitter=given, **TIMES.get(make, {})), id="job").schedule
    assert json.loads(json.dumps(schedule, allow_nan=False)) == schedule
    (found,) = [part["jitter"] for part in [schedule, *schedule.get("triggers", ())] if part["jitter"] is not None]
    assert (type(found), found) == (type(written), written)


@pytest.mark.parametrize("wrong", [math.nan, -1, "3", timedelta(seconds=3), [1]])
@pytest.mark.parametrize("make", [CronTrigger, IntervalTrigger, any_of])
def test_a_jitter_that_is_no_number_is_refused(
    registry: JobRegistry, make: Callable[..., BaseTrigger], wrong: object
) -> None:
    with pytest.raises(JobDefinitionError, match=r"^job 'job': jitter is a number of seconds, not less than 0"):
        registry.add(report, make(jitter=wrong, **TIMES.get(make, {})), id="job")


@pytest.mark.parametrize("run_date", ["0001-01-01", datetime.min.replace(tzinfo=UTC)])
def test_a_date_before_which_nothing_can_be_is_refused(registry: JobRegistry, run_date: object) -> None:
    with pytest.raises(JobDefinitionError, match=r"^job 'job': a run_date is in the year 2 or later"):
        registry.add(report, "date", run_date=run_date, id="job")


def test_a_calendar_interval_is_written_in_whole_numbers(registry: JobRegistry) -> None:
    trigger = CalendarIntervalTrigger(days=Three(), start_date="2026-01-01", timezone=UTC)
    assert json.loads(json.dumps(registry.add(report, trigger, id="job").schedule))["days"] == 3


@pytest.mark.parametrize(
    ("func", "is_coroutine"),
    [
        (report, True),
        (functools.partial(functools.partial(report), 1), True),
        (Mail(), True),
        (functools.partial(Mail()), True),
        (clean_up, False),
        (Mail().send, False),
        (functools.partial(clean_up, "x"), False),
    ],
)
def test_what_runs_on_the_loop_and_what_in_a_thread(func: Callable[..., Any], is_coroutine: bool) -> None:
    """P5: a coroutine function mistaken for a plain one would never be awaited."""
    assert is_coroutine_function(func) is is_coroutine


class JobId(str, Enum):  # noqa: UP042  str() of a StrEnum is its value
    REPORT = "report"


def test_an_id_from_an_enumeration_is_plain_text(registry: JobRegistry) -> None:
    """``str()`` of its member is ``JobId.REPORT``, which was the id in keys and in Redis."""
    job = registry.add(report, "interval", seconds=5, id=JobId.REPORT)
    assert (type(job.id), job.id, registry.get(JobId.REPORT)) == (str, "report", job)
    assert flat([("register", JobId.REPORT, None, 5)])[:4] == ["register", "report", "", "5"]


def test_max_instances_is_a_number_that_every_ledger_can_hold(registry: JobRegistry) -> None:
    """A larger one failed each claim, and every other claim of its batch."""
    assert registry.add(report, "cron", hour=3, id="job", max_instances=2**64).max_instances == MOST
    with pytest.raises(JobDefinitionError, match="max_instances is a whole number, not less than 1, not 0"):
        registry.add(report, "cron", hour=3, id="none", max_instances=0)
