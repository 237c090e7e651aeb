"""A job that cannot be planned is broken, with a reason, and stops no other job (docs/pitfalls.md#63, #64)."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from apscheduler.triggers.base import BaseTrigger

from election import Election, JobDefinitionError
from election.core.errors import MAX_ERROR_LENGTH, what_went_wrong
from election.schedule import stored, triggers
from election.schedule.commands import Skip
from election.schedule.jobs import MAX_ID_LENGTH, JobRegistry
from election.schedule.model import UNREADABLE, JobState, State, StoredJob
from election.schedule.progress import JobProgress
from election.schedule.stored import load_jobs, mark_broken
from election.schedule.ticks import next_run_time
from election.schedule.triggers import trigger_text
from tests.schedule.making import NOW, at
from tests.schedule.term_bench import TermBench

pytestmark = pytest.mark.anyio


class FragileTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler 3 has no types
    """A trigger that fires every second, unless it is broken."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.is_broken = False
        self.error = error or ZeroDivisionError("the holidays cannot be read")

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        if self.is_broken:
            raise self.error
        moment = previous_fire_time or now
        return moment.replace(microsecond=0) + timedelta(seconds=1)

    def __str__(self) -> str:
        return "fragile"


async def _broken(bench: TermBench) -> str | None:
    [found] = [job for job in await bench.others.jobs() if job.id == "fragile"]
    return found.broken


def _due(bench: TermBench, job_id: str) -> list[datetime]:
    return [run.due for run in bench.ran if run.job_id == job_id]


class PanicException(BaseException):
    """As extension modules in Rust raise."""


NO_EXCEPTIONS = [PanicException("index out of bounds"), GeneratorExit(), KeyboardInterrupt(), asyncio.CancelledError()]


@pytest.mark.parametrize("error", [None, *NO_EXCEPTIONS], ids=repr)
async def test_pitfall_64_a_trigger_that_raises_at_the_start(bench: TermBench, error: BaseException | None) -> None:
    trigger = FragileTrigger(error)
    bench.job(trigger=trigger, id="fragile", misfire_grace_time=None)
    bench.job(seconds=1, id="steady")
    trigger.is_broken = True
    async with bench.term():
        await bench.until(lambda: len(_due(bench, "steady")) >= 3)
        told = await _broken(bench)
        assert told is not None
        assert told.startswith("its trigger raises ")
        assert what_went_wrong(trigger.error) in told
        assert _due(bench, "fragile") == []
        trigger.is_broken = False
        await bench.until(lambda: len(_due(bench, "fragile")) >= 2)
        assert await _broken(bench) is None


@pytest.mark.parametrize("error", [None, *NO_EXCEPTIONS], ids=repr)
async def test_pitfall_64_a_trigger_that_raises_for_a_second_under_the_scheduler(
    bench: TermBench, error: BaseException | None
) -> None:
    trigger = FragileTrigger(error)
    bench.job(trigger=trigger, id="fragile", misfire_grace_time=None)
    bench.job(seconds=1, id="steady")
    async with bench.term():
        await bench.until(lambda: len(_due(bench, "fragile")) >= 2)
        trigger.is_broken = True
        await bench.until(lambda: _broken(bench))
        ran = len(_due(bench, "steady"))
        await bench.until(lambda: len(_due(bench, "steady")) >= ran + 3)
        trigger.is_broken = False
        ran = len(_due(bench, "fragile"))
        await bench.until(lambda: len(_due(bench, "fragile")) >= ran + 2)
        assert await _broken(bench) is None
    assert _due(bench, "steady") == [at(number) for number in range(1, len(_due(bench, "steady")) + 1)]
    assert len(_due(bench, "fragile")) == len(set(_due(bench, "fragile")))


class NowTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler 3 has no types
    """A trigger that is always due."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        return now

    def __str__(self) -> str:
        return "now"


@pytest.mark.parametrize("kind", ["interval", "custom"])
async def test_pitfall_64_a_trigger_with_more_ticks_than_anybody_can_run(
    bench: TermBench, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The scheduler would do nothing else: no other job, no heartbeat."""
    if kind == "custom":
        bench.job(trigger=NowTrigger(), id="fragile")
    else:  # as another version may have stored it
        with monkeypatch.context() as patch:
            patch.setattr(triggers, "SHORTEST_INTERVAL", timedelta(0))
            bench.job(seconds=1e-6, id="fragile")
    bench.job(seconds=1, id="steady")
    async with bench.term():
        await bench.until(lambda: bench.ran)
        bench.clock.step_wall_clock(timedelta(seconds=1))  # as it goes on while ticks are looked at
        await bench.until(lambda: _broken(bench))
        assert await _broken(bench) == "its trigger has ticks less than 0.001 s apart"
        ran = len(_due(bench, "steady"))
        bench.clock.step_wall_clock(timedelta(seconds=1))
        await bench.until(lambda: len(_due(bench, "steady")) > ran)


async def test_ticks_a_millisecond_apart_are_run(bench: TermBench) -> None:
    """Those that one look leaves are handed over by the next one."""
    bench.job(seconds=0.001, id="fragile", misfire_grace_time=None)
    async with bench.term():
        await bench.until(lambda: bench.ran)
        bench.clock.step_wall_clock(timedelta(seconds=2.5))
        await bench.clock.advance(0.01)
        assert await _broken(bench) is None
        assert bench.handed_over("fragile") >= at(2.5)
    await bench.agrees()


def test_pitfall_63_an_interval_whose_ticks_lie_beyond_the_end_of_time_is_refused() -> None:
    election = Election("unused", scheduler_options={"timezone": "UTC"})
    with pytest.raises(JobDefinitionError, match="out of range"):
        election.scheduled_job("interval", seconds=4e11, id="job")(print)


@pytest.mark.parametrize("error", [RuntimeError("no"), *NO_EXCEPTIONS], ids=repr)
def test_what_is_shown_of_a_job_never_raises(error: BaseException) -> None:
    class Mute(FragileTrigger):
        def __str__(self) -> str:
            raise error

    trigger = Mute(error)
    trigger.is_broken = True
    assert trigger_text(trigger).endswith("Mute")
    assert next_run_time(JobState("job", {}, NOW, NOW), trigger) is None


@pytest.mark.parametrize("stored", [StoredJob("tests.schedule.stored_functions:remember", {}, {"of_the_future": 1})])
def test_a_row_of_the_future_is_a_broken_job(stored: StoredJob) -> None:
    registry = JobRegistry({"timezone": "UTC"})
    description = {
        "type": "interval",
        "seconds": 5,
        "timezone": "UTC",
        "start_date": None,
        "end_date": None,
        "jitter": None,
    }
    rows = [
        JobState("future", description, NOW, NOW, stored=stored),
        JobState("unreadable", UNREADABLE, NOW, NOW, stored=StoredJob("x"), broken="its row cannot be read: 2**63"),
        JobState(
            "good", description, NOW, NOW, stored=StoredJob("tests.schedule.stored_functions:remember", {"value": 1})
        ),
    ]
    jobs, broken = load_jobs(registry, state := State(rows, [], []))
    assert set(jobs) == {"good"}
    assert [each.job_id for each in mark_broken(broken, state)] == ["future"], "why the other one is broken is known"


# --- what is refused at the door -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "job_id",
    ["", " ", "x" * (MAX_ID_LENGTH + 1), "a\nb", "a\0b", "a\ud83d", "\u2028", " padded", "padded ", 7, b"bytes", ["a"]],
    ids=ascii,
)
def test_pitfall_63_an_id_that_a_ledger_could_not_hold_is_refused(job_id: Any) -> None:
    election = Election("unused", scheduler_options={"timezone": "UTC"})
    with pytest.raises(JobDefinitionError, match=r"id of a job"):
        election.scheduled_job("interval", seconds=5, id=job_id)(print)


@pytest.mark.parametrize(
    "job_id", ["x", "x" * MAX_ID_LENGTH, "\U0001f600" * MAX_ID_LENGTH, "Größe/übrig?&#%", "a b", "'; --"]
)
def test_other_ids_are_taken(job_id: str) -> None:
    election = Election("unused", scheduler_options={"timezone": "UTC"})
    election.scheduled_job("interval", seconds=5, id=job_id)(print)
    assert [job.id for job in election._jobs] == [job_id]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"name": "x" * 256}, "name is text of up to 255"),
        ({"name": 7}, "job 'job'"),
        ({"description": "x" * 4001}, "more than 4000"),
        ({"description": "\ud83d"}, "cannot be sent"),
        ({"tags": ["a b"]}, "no tag"),
        ({"tags": [7]}, "no tag"),
    ],
)
def test_texts_that_an_answer_could_not_hold_are_refused(arguments: dict[str, Any], reason: str) -> None:
    election = Election("unused", scheduler_options={"timezone": "UTC"})
    with pytest.raises(JobDefinitionError, match=reason):
        election.scheduled_job("interval", seconds=5, id="job", **arguments)(print)


def test_a_long_docstring_is_shortened() -> None:
    def job() -> None: ...

    job.__doc__ = "x" * 70_000
    election = Election("unused", scheduler_options={"timezone": "UTC"})
    election.scheduled_job("interval", seconds=5, id="job")(job)
    [registered] = election._jobs
    assert len(registered.description or "") == 4000


@pytest.mark.parametrize("trigger", [7, "no-such-trigger", object()])
def test_what_is_no_trigger_is_refused(trigger: Any) -> None:
    election = Election("unused", scheduler_options={"timezone": "UTC"})
    with pytest.raises(JobDefinitionError, match="job 'job'"):
        election.scheduled_job(trigger, id="job")(print)


@pytest.mark.parametrize("error", [RuntimeError("no words"), PanicException("no words")], ids=repr)
def test_a_trigger_class_that_cannot_be_printed_is_refused_with_its_error(error: BaseException) -> None:
    class Mute(FragileTrigger):
        def __str__(self) -> str:
            raise error

    election = Election("unused", scheduler_options={"timezone": "UTC"})
    with pytest.raises(JobDefinitionError, match="no words"):
        election.scheduled_job(Mute(), id="job")(print)


@pytest.mark.parametrize("ends", [False, True])
async def test_p4_pitfall_64_a_trigger_that_raises_when_left_out_ticks_are_counted(
    bench: TermBench, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """In mid-schedule they had neither run nor skip; at its end no job had a tick any more."""
    real, raised = JobProgress.skipped_range, list[datetime]()

    def fails_once(self: JobProgress, due: datetime, now: datetime) -> Skip | None:
        if self.job.id == "fragile" and self.jump is not None and not raised:
            raised.append(due)
            raise ConnectionError("the calendar service is down")
        return real(self, due, now)

    monkeypatch.setattr(JobProgress, "skipped_range", fails_once)
    bench.job(id="fragile", seconds=1, misfire_grace_time=1, end_date=at(20) if ends else None)
    bench.job(id="steady", seconds=1, misfire_grace_time=1)
    async with bench.term() as term:
        await bench.until(lambda: _due(bench, "fragile"))
        bench.clock.step_wall_clock(timedelta(seconds=60))
        term._adapter._scheduler.wakeup()
        await bench.until(lambda: raised)
        ran = len(_due(bench, "steady"))
        await bench.until(lambda: len(_due(bench, "steady")) >= ran + 3)

        async def is_planned_again() -> bool:
            return await _broken(bench) is None

        await bench.until(is_planned_again)
        await bench.clock.advance(3)
    await bench.agrees()


def test_pitfall_63_an_import_error_that_no_ledger_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text is part of the plan, which could never be written."""

    def fails(_: str) -> object:
        raise LookupError("/srv/caf\udce9\0" + "x" * 10_000)

    monkeypatch.setattr(stored, "ref_to_obj", fails)
    found = JobState("job", {"type": "date", "run_date": None}, NOW, NOW, stored=StoredJob("module:function", {}, {}))
    _, broken = load_jobs(JobRegistry({}), State([found], [], []))
    broken["job"].encode()
    assert "\0" not in broken["job"]
    assert len(broken["job"]) < 2 * MAX_ERROR_LENGTH
