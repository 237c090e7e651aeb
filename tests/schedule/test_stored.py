"""Jobs added at run time: a reference and JSON; a broken one harms no other."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from election.core.errors import JobDefinitionError
from election.schedule.commands import MarkBroken, RegisterJob
from election.schedule.jobs import JobRegistry
from election.schedule.model import JobState, State, StoredJob
from election.schedule.plan import make_plan
from election.schedule.stored import StoredJobLoader, load_jobs, mark_broken, to_store
from tests.schedule import stored_functions
from tests.schedule.making import NOW, at
from tests.schedule.stored_functions import FakeStore, SmallStore, a_lambda, remember, remember_soon

REMEMBER = f"{stored_functions.__name__}:remember"


@pytest.fixture
def registry() -> JobRegistry:
    return JobRegistry({"timezone": "UTC"})


def stored_state(
    registry: JobRegistry, func: Any = remember, trigger: str | BaseTrigger = "interval", **arguments: Any
) -> JobState:
    """State in the ledger after ``add_job`` of some worker."""
    description, stored = to_store(registry, func, trigger, **{"id": "stored", **arguments})
    return JobState(arguments.get("id", "stored"), description, scheduled_since=NOW, settled_until=NOW, stored=stored)


# --- what can be stored ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("func", "reference"),
    [
        (remember, REMEMBER),
        (remember_soon, f"{stored_functions.__name__}:remember_soon"),
        (REMEMBER, REMEMBER),
        (FakeStore.put, f"{stored_functions.__name__}:FakeStore.put"),
        (SmallStore.count, f"{stored_functions.__name__}:SmallStore.count"),
        (Path.cwd, f"{Path.__module__}:Path.cwd"),
    ],
)
def test_a_function_is_stored_by_its_name(registry: JobRegistry, func: Any, reference: str) -> None:
    _, stored = to_store(registry, func, "interval", seconds=5, id="stored")
    assert stored == StoredJob(reference)


def _local() -> Any:
    def local() -> None: ...

    return local


@pytest.mark.parametrize(
    ("func", "message"),
    [
        pytest.param(lambda: None, "a lambda cannot be stored", id="a lambda"),
        pytest.param(a_lambda, "a lambda cannot be stored", id="a lambda with a name"),
        pytest.param(_local(), "within another one cannot be stored", id="a local function"),
        pytest.param(functools.partial(remember, 1), "a partial cannot be stored", id="a partial"),
        pytest.param(FakeStore().take, "method of an object", id="a bound method"),
        pytest.param("no.such.module:function", "cannot be imported", id="no such module"),
        pytest.param(f"{stored_functions.__name__}:nothing", "cannot be imported", id="no such function"),
        pytest.param(f"{stored_functions.__name__}:NOT_CALLABLE", "is no function", id="no function"),
        pytest.param("no_colon", "package.module:function", id="no reference"),
        pytest.param("__main__:job", "into a module", id="the main program, another one in each process"),
        pytest.param("__mp_main__:job", "into a module", id="the same under multiprocessing"),
    ],
)
def test_what_another_process_could_not_find_is_refused(registry: JobRegistry, func: Any, message: str) -> None:
    with pytest.raises(JobDefinitionError, match=message):
        to_store(registry, func, "interval", seconds=5, id="stored")


@pytest.mark.parametrize(
    "value",
    [{1, 2}, (1, 2), {1: "a"}, datetime(2026, 1, 1, tzinfo=UTC), float("nan"), b"bytes", len, {"deep": [(1,)]}],
    ids=repr,
)
def test_arguments_that_json_cannot_hold_are_refused(registry: JobRegistry, value: object) -> None:
    with pytest.raises(JobDefinitionError, match="must be JSON"):
        to_store(registry, remember, "interval", seconds=5, id="stored", kwargs={"value": value})


@pytest.mark.parametrize("value", [None, 1, 1.5, "text", "\ud800", [1, [2]], {"a": {"b": None}}, True], ids=repr)
def test_arguments_come_back_as_they_went(registry: JobRegistry, value: object) -> None:
    state = stored_state(registry, seconds=5, kwargs={"value": value})
    assert StoredJobLoader(registry).load(state).kwargs == {"value": value}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"args": [1]}, "by name", id="args, which are not stored"),
        pytest.param({"kwargs": {"wrong": 1}}, "wrong", id="what the function does not take"),
        pytest.param({"next_run_time": NOW}, "next_run_time", id="what no job takes"),
        pytest.param({"retries": -1}, "retries", id="fewer than no retries"),
        pytest.param({"max_instances": 0}, "max_instances", id="what APScheduler refuses"),
        pytest.param({"unheard_of": 1}, "unheard_of", id="what nobody knows"),
        pytest.param({"misfire_grace_time": 1.5}, "misfire_grace_time", id="half a second of grace"),
    ],
)
def test_wrong_arguments_are_refused_where_they_are_given(
    registry: JobRegistry, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(JobDefinitionError, match=message):
        to_store(registry, remember, "interval", **{"seconds": 5, "id": "stored", **arguments})


def test_the_ids_of_the_code_are_taken(registry: JobRegistry) -> None:
    registry.add(remember, "interval", seconds=1, id="taken")
    with pytest.raises(JobDefinitionError, match="in the code already"):
        to_store(registry, remember, "interval", seconds=5, id="taken")


def test_a_trigger_class_of_the_users_own_cannot_be_stored(registry: JobRegistry) -> None:
    class Own(BaseTrigger):  # type: ignore[misc]
        def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
            return now

    with pytest.raises(JobDefinitionError, match="in the code"):
        to_store(registry, remember, Own(), id="stored")


# --- and is there again ----------------------------------------------------------------------------------------------


def test_options_come_back(registry: JobRegistry) -> None:
    options = {
        "name": "a name",
        "coalesce": False,
        "max_instances": 3,
        "misfire_grace_time": None,
        "rerun_interrupted": True,
        "retries": 2,
        "retry_backoff": 0.5,
        "timeout": 4,
    }
    job = StoredJobLoader(registry).load(stored_state(registry, seconds=5, **options))
    assert {name: getattr(job, name) for name in options} == options
    assert job.func is remember


@pytest.mark.parametrize(
    ("trigger", "arguments"),
    [
        ("interval", {"seconds": 10}),
        ("interval", {"seconds": 10, "start_date": at(-100)}),
        ("date", {}),
        ("date", {"run_date": at(30)}),
        ("cron", {"second": "*/5"}),
        ("calendarinterval", {"days": 2}),
        (functools.partial(IntervalTrigger, seconds=10), {}),
        (DateTrigger, {}),
        (functools.partial(CronTrigger, hour=3), {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("later", [0.001, 30, 3600, 40 * 86400])
def test_p4_a_stored_job_is_the_same_whenever_it_is_loaded(
    registry: JobRegistry, trigger: str | Callable[[], BaseTrigger], arguments: dict[str, Any], later: float
) -> None:
    """Described again, an open start would look like a given one: a changed trigger, whose owed ticks are dropped."""
    state = stored_state(registry, trigger=trigger if isinstance(trigger, str) else trigger(), **arguments)
    jobs, _ = load_jobs(registry, State([state], [], []))
    assert jobs["stored"].schedule == state.trigger
    plan = make_plan(jobs, State([state], [], []), now=at(later), catch_up_limit=10, settled_until={}, running=())
    assert [entry for entry in plan.entries if isinstance(entry, RegisterJob)] == []


def test_an_open_interval_is_anchored_to_when_it_was_stored(registry: JobRegistry) -> None:
    state = stored_state(registry, seconds=100)
    job = StoredJobLoader(registry).load(state)
    assert job.trigger.start_date == at(100)


# --- what breaks -----------------------------------------------------------------------------------------------------


@pytest.fixture
def fragile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that tests may break and repair."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "fragile_module", raising=False)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    return tmp_path / "fragile_module.py"


def load(registry: JobRegistry, *states: JobState) -> tuple[set[str], list[MarkBroken]]:
    __import__("importlib").invalidate_caches()
    state = State(states, [], [])
    jobs, broken = load_jobs(registry, state)
    return set(jobs), mark_broken(broken, state)


def fragile_state(error: str | None = None) -> JobState:
    description = {"type": "interval", "seconds": 5.0, "timezone": "UTC", "start_date": None, "end_date": None}
    return JobState(
        "fragile",
        {**description, "jitter": None},
        scheduled_since=NOW,
        settled_until=NOW,
        stored=StoredJob("fragile_module:work"),
        broken=error,
    )


@pytest.mark.parametrize(
    ("source", "error"),
    [
        pytest.param(None, "No module named 'fragile_module'", id="its module is gone"),
        pytest.param("", "error looking up", id="its function is gone"),
        pytest.param("work = 5", "is no function", id="it is no function any more"),
        pytest.param("raise ValueError('at import')", "at import", id="its module raises"),
        pytest.param("import sys; sys.exit('bye')", "bye", id="its module exits"),
        pytest.param("raise KeyboardInterrupt", "KeyboardInterrupt", id="its module raises no Exception"),
        pytest.param("import asyncio; raise asyncio.CancelledError", "CancelledError", id="its module cancels"),
        pytest.param("def work(:", "invalid syntax", id="its module is no Python"),
        pytest.param("def work(needed): ...", "needed", id="its function takes something else now"),
    ],
)
def test_a_reference_that_broke_harms_no_other(
    registry: JobRegistry, fragile: Path, source: str | None, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    if source is not None:
        fragile.write_text(source)
    registry.add(remember, "interval", seconds=1, id="of the code")
    with caplog.at_level(logging.ERROR, "election"):
        loaded, broken = load(registry, fragile_state(), stored_state(registry, seconds=5))
    assert loaded == {"of the code", "stored"}
    [entry] = broken
    assert entry.job_id == "fragile"
    assert entry.error is not None
    assert error in entry.error
    assert "'fragile'" in caplog.text


def test_a_break_is_told_once_and_healed_later(
    registry: JobRegistry, fragile: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, [broken] = load(registry, fragile_state())
    caplog.clear()
    assert load(registry, fragile_state(broken.error)) == (set(), [])
    assert caplog.text == ""
    fragile.write_text("def work(): ...")
    healed = fragile_state(broken.error)
    assert load(registry, healed) == ({"fragile"}, [])
    state = State([healed], [], [])
    jobs, _ = load_jobs(registry, state)
    plan = make_plan(jobs, state, now=NOW, catch_up_limit=10, settled_until={}, running=())
    assert MarkBroken("fragile", None) in plan.entries


@pytest.mark.parametrize(
    "trigger",
    [
        {"type": "lunar"},
        {"type": "other", "text": "own"},
        {"type": "cron", "fields": {"second": "x"}},
        {"type": "cron"},
    ],
    ids=str,
)
def test_a_trigger_that_cannot_be_built_is_a_break_too(registry: JobRegistry, trigger: dict[str, Any]) -> None:
    state = JobState("odd", trigger, scheduled_since=NOW, settled_until=NOW, stored=StoredJob(REMEMBER))
    loaded, [broken] = load(registry, state, stored_state(registry, seconds=5))
    assert loaded == {"stored"}
    assert "trigger" in str(broken.error)


def test_options_of_another_version_are_a_break_too(registry: JobRegistry) -> None:
    state = stored_state(registry, seconds=5)
    odd = JobState("odd", state.trigger, NOW, NOW, stored=StoredJob(REMEMBER, {}, {"from_the_future": 1}))
    loaded, [broken] = load(registry, odd, state)
    assert loaded == {"stored"}
    assert "from_the_future" in str(broken.error)


def test_removed_jobs_are_gone_and_the_codes_own_come_first(registry: JobRegistry) -> None:
    registry.add(remember_soon, "interval", seconds=1, id="both")
    removed = JobState("removed", {"type": "x"}, NOW, NOW, stored=StoredJob(REMEMBER), removed=True)
    both = stored_state(JobRegistry({}), seconds=5, id="both")
    jobs, broken = load_jobs(registry, State([removed, both], [], []))
    assert set(jobs) == {"both"}
    assert jobs["both"].func is remember_soon
    assert broken == {}


def test_a_date_is_stored_with_its_own_moment(registry: JobRegistry) -> None:
    """Also given as an instance, for half a minute from now, which looks like a time read from the clock."""
    soon = datetime.now(UTC) + timedelta(seconds=30)
    for trigger, arguments in (("date", {"run_date": soon}), (DateTrigger(soon), {})):
        description, _ = to_store(registry, remember, trigger, id="stored", **arguments)
        assert description["run_date"] == soon.isoformat()


def test_no_argument_of_the_program_can_be_given(registry: JobRegistry) -> None:
    for name in ("is_stored", "given"):
        with pytest.raises(JobDefinitionError, match=name):
            to_store(registry, remember, "interval", id="stored", seconds=5, **{name: True})
