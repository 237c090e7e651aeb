"""Refusals of what APScheduler has and an Election lacks: each names the way out."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

from election import Election, JobDefinitionError
from election.pool_jobs import PoolJobs
from election.schedule.unsupported import describe_missing

METHODS = sorted(name for name in dir(AsyncIOScheduler) if not name.startswith("_"))


@pytest.fixture
def election(tmp_path: Path) -> Election:
    return Election(tmp_path)


class Service:
    """An object whose methods are jobs."""

    def report(self) -> None: ...

    @classmethod
    def clean_up(cls) -> None: ...

    @staticmethod
    def refresh() -> None: ...

    def __call__(self) -> None: ...


def report() -> None: ...


def within() -> Callable[[], None]:
    def inner() -> None: ...

    return inner


@pytest.mark.parametrize("name", METHODS)
def test_each_method_of_apscheduler_is_there_or_its_counterpart_is_named(election: Election, name: str) -> None:
    if name in {"add_job", "remove_job", "scheduled_job"}:
        assert callable(getattr(election, name))
        return
    with pytest.raises(AttributeError, match=f"no attribute '{name}'; instead: .+") as refused:
        getattr(election, name)
    assert not hasattr(election, name)  # so that code which tries a name goes on as before
    message = str(refused.value)
    assert [each for each in re.findall(r"election\.jobs\.(\w+)", message) if not hasattr(PoolJobs, each)] == []
    own = [each for each in re.findall(r"\belection\.(\w+)", message) if each not in {"jobs", "events"}]
    assert [each for each in own if not hasattr(Election, each)] == []


def test_any_other_name_is_missing_as_usual(election: Election) -> None:
    assert describe_missing("repeat") == "an Election has no attribute 'repeat'"
    with pytest.raises(AttributeError, match=r"'repeat'$"):
        election.repeat  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"replace_existing": True}, r'leave it out; .*if_exists="replace"'),
        ({"next_run_time": None}, r'first_run="now".*at_start=True.*run_now\(id\).*jobs\.pause\(id\)'),
        ({"jobstore": "default"}, "leave it out; the pool's ledger"),
        ({"executor": "processpool"}, "leave it out; .*ProcessPoolExecutor of your own"),
        ({"misfire_grace_time": 0}, "at least 1, or None to run however late, not 0"),
        ({"misfire_grace_time": 1.5}, "whole number of seconds"),
        ({"max_instnaces": 2}, "'interval' takes no max_instnaces, .*did you mean max_instances"),
        ({"max_retries": 2}, "did you mean retries"),
        ({"second": 2}, "did you mean seconds"),
        ({"job_id": "x"}, "takes no job_id"),
    ],
    ids=str,
)
def test_each_argument_is_refused_with_the_way_out(election: Election, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(JobDefinitionError, match=words):
        election.scheduled_job("interval", **{"seconds": 5, **arguments})(report)


@pytest.mark.parametrize(
    ("register", "words"),
    [
        (
            lambda election: election.scheduled_job(report),
            r'needs a trigger, .*scheduled_job\("interval", seconds=10\)',
        ),
        (lambda election: election.scheduled_job(None), 'the trigger "date" without a run_date runs it once'),
        (lambda election: election.add_job(report, "*/5 * * * *"), r"\"crontab\", expression='\*/5 \* \* \* \*'"),
        (lambda election: election.add_job(report, "cron", secnd=3), "'cron' takes no secnd, .*did you mean second"),
        (lambda election: election.add_job(report, CronTrigger(hour=3), hour=3), "a trigger that is made already"),
        (lambda election: election.add_job(report(), "interval", seconds=3), "give the function itself"),
    ],
    ids=["no parentheses", "no trigger", "expression", "field", "made already", "called"],
)
def test_a_wrong_registration_is_refused(election: Election, register: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(JobDefinitionError, match=words):
        register(election)


def test_a_default_that_is_misspelt_is_refused(tmp_path: Path) -> None:
    election = Election(tmp_path, scheduler_options={"job_defaults": {"coalesc": True}})
    with pytest.raises(JobDefinitionError, match=r"takes no coalesc, .*did you mean coalesce"):
        election.add_job(report, "interval", seconds=3)


@pytest.mark.parametrize(
    ("func", "words"),
    [
        (functools.partial(report), "a partial cannot be stored: give its function, and the arguments by name"),
        (Service().report, "a method of an object.* cannot be stored: give a function at module level"),
        (Service(), "an object that can be called cannot be stored: give a function at module level"),
        (lambda: None, "a lambda cannot be stored: give a function at module level"),
        (within(), r"a function within another one cannot be stored: .*functools\.wraps"),
    ],
    ids=["partial", "method", "object", "lambda", "within"],
)
def test_a_function_that_no_other_process_finds_is_not_stored(
    election: Election, func: Callable[[], None], words: str
) -> None:
    with pytest.raises(JobDefinitionError, match=words):
        election.jobs.add(func, "interval", seconds=5, id="job")


@pytest.mark.parametrize("func", [Service.clean_up, Service.refresh])
def test_methods_of_a_class_are_stored(election: Election, func: Callable[[], None]) -> None:
    election.jobs.add(func, "interval", seconds=5, id="job").result()
    assert election.jobs.get("job").result().stored.func == f"{__name__}:{func.__qualname__}"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"next_run_time": None}, r"run_now\(id\).*jobs\.pause\(id\)"),
        ({"args": [1]}, "pass them by name: kwargs="),
        ({"executor": "threadpool"}, "leave it out"),
    ],
    ids=str,
)
def test_a_change_is_refused_with_the_way_out(election: Election, changes: dict[str, Any], words: str) -> None:
    election.jobs.add(report, "interval", seconds=5, id="job").result()
    with pytest.raises(JobDefinitionError, match=words):
        election.jobs.modify("job", **changes).result()


def test_a_job_of_the_code_is_paused_instead_of_removed(election: Election) -> None:
    election.add_job(report, "interval", seconds=5, id="code")
    with pytest.raises(LookupError, match=r"out of the code, or pause it: election\.jobs\.pause\('code'\)"):
        election.jobs.remove("code").result()
