"""``first_run="now"`` runs a job once when it is first registered, ``at_start=True`` once in each term."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from election import Election, JobDefinitionError, current_run
from election.schedule.commands import RegisterJob
from election.schedule.model import SkipReason
from election.schedule.stored import to_store
from election.schedule.triggers import build, describe, trigger_text
from tests.schedule.making import NOW, CountingTrigger, at, make_job, make_term, process
from tests.schedule.term_bench import MINUTES, TermBench
from tests.support.logs import logged
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio


noted_at: list[datetime] = []


async def noted() -> None:
    noted_at.append(current_run().due)


async def led(bench: TermBench, number: int, seconds: float) -> list[float]:
    """Due times, in seconds from ``NOW``, of the ticks that ran in a term of this length."""
    before = len(bench.ran)
    bench.options |= MINUTES
    async with bench.term(number):
        await bench.clock.advance(seconds)
    return [round((run.due - NOW).total_seconds(), 3) for run in bench.ran[before:]]


def again(bench: TermBench, **arguments: Any) -> None:
    """The application is started again."""
    bench.registry = bench.new_registry()
    bench.job(**arguments)


@pytest.mark.parametrize("trigger", [{"seconds": 60}, {"trigger": "cron", "second": 0}], ids=["interval", "cron"])
async def test_the_first_run_is_now_and_the_others_as_the_trigger_says(
    bench: TermBench, trigger: dict[str, Any]
) -> None:
    bench.job(first_run="now", **trigger)
    assert await led(bench, 1, 130) == [0, 60, 120]
    again(bench, first_run="now", **trigger)
    assert await led(bench, 2, 60) == [180], "it was seen before"
    assert await bench.skips() == {}
    await bench.agrees()


async def test_another_schedule_is_no_first_run(bench: TermBench) -> None:
    bench.job(first_run="now", seconds=60)
    assert await led(bench, 1, 10) == [0]
    again(bench, first_run="now", seconds=30)
    assert await led(bench, 2, 35) == [40]
    await bench.agrees()


async def test_p4_a_first_run_that_its_leader_did_not_live_to_make_is_owed(bench: TermBench) -> None:
    """The next leader runs it within the grace, and skips it after that."""
    jobs = [make_job("interval", id=name, hours=1, first_run="now") for name in ("soon", "late")]
    await bench.others.begin_term(make_term(1), process())
    await bench.others.record(
        1, [RegisterJob(job.id, job.schedule, at=NOW, since=NOW - timedelta(microseconds=1)) for job in jobs]
    )
    for job_id, grace in (("soon", 30), ("late", 1)):
        bench.job(id=job_id, first_run="now", seconds=3600, misfire_grace_time=grace)
    await bench.clock.advance(9)
    assert await led(bench, 2, 1) == [0]
    assert [run.job_id for run in bench.ran] == ["soon"]
    assert [(row.job_id, row.first_due, row.reason) for row in await bench.others.skips()] == [
        ("late", NOW, SkipReason.MISFIRED)
    ]
    await bench.agrees()


async def test_at_start_runs_once_in_each_term(bench: TermBench) -> None:
    bench.job(seconds=60, at_start=True)
    assert await led(bench, 1, 70) == [0, 60]
    assert await led(bench, 2, 5) == [70]
    bench.clock.step_wall_clock(timedelta(seconds=-1))
    assert await led(bench, 3, 50) == [74, 120]
    await bench.agrees()


async def test_at_start_a_tick_that_is_owed_is_the_run(bench: TermBench) -> None:
    """Nobody led at 60; the new leader runs that tick, and no additional one."""
    bench.job(seconds=60, at_start=True)
    assert await led(bench, 1, 50) == [0]
    await bench.clock.advance(15)
    assert await led(bench, 2, 10) == [60]
    await bench.agrees()


async def test_a_paused_job_does_not_run_at_the_start(bench: TermBench) -> None:
    bench.job(seconds=60, at_start=True)
    assert await led(bench, 1, 5) == [0]
    await bench.others.pause("job", True)
    assert await led(bench, 2, 5) == []


async def test_a_job_that_is_resumed_does_not_run_for_the_start_of_its_term(bench: TermBench) -> None:
    bench.job(seconds=60, at_start=True)
    assert await led(bench, 1, 5) == [0]
    await bench.others.pause("job", True)
    async with bench.term(2):
        await bench.clock.advance(5)
        await bench.others.pause("job", False)
        await bench.clock.advance(60)
    assert [round((run.due - NOW).total_seconds()) for run in bench.ran] == [0, 60]


async def test_a_job_that_is_added_at_run_time_has_a_first_run_too(bench: TermBench) -> None:
    arguments = {"id": "added", "seconds": 60, "first_run": "now", "at_start": True}
    schedule, stored = to_store(bench.registry, noted, "interval", **arguments)
    noted_at.clear()
    bench.options |= MINUTES
    async with bench.term(1):
        await bench.clock.advance(1)
        await bench.others.store_job("added", schedule, stored)
        await bench.clock.advance(62)
    first, second = noted_at
    assert (first - NOW, second - first) == (timedelta(seconds=1), timedelta(seconds=60))
    async with bench.term(2):
        await bench.clock.advance(1)
    assert noted_at[2] == at(63)
    await bench.agrees()


def test_the_description_is_the_same_in_each_process_and_builds_back() -> None:
    first, second = (make_job("interval", hours=1, first_run="now") for _ in range(2))
    assert first.schedule == second.schedule
    assert trigger_text(first.trigger) == "once at first, then interval[1:00:00]"
    built = build(first.schedule, NOW)
    assert built is not None
    assert trigger_text(built) == "once at first, then interval[1:00:00]"
    assert built.triggers[0].run_date == NOW
    assert describe(CountingTrigger(built.triggers[1]), NOW)["type"] == "other"


@pytest.mark.parametrize(
    ("trigger", "arguments", "reason"),
    [
        ("date", {"first_run": "now"}, "goes with cron"),
        ("interval", {"seconds": 1, "first_run": "later"}, "not 'later'"),
        (CountingTrigger(make_job().trigger), {"first_run": "now"}, "goes with cron"),
        ("interval", {"seconds": 1, "next_run_time": NOW}, "at_start=True"),
    ],
)
def test_what_cannot_be_is_refused(trigger: Any, arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(JobDefinitionError, match=reason):
        make_job(trigger, **arguments)


@pytest.mark.parametrize(("trigger", "name"), [("interval", "start_date"), ("date", "run_date")])
async def test_a_start_that_is_another_one_in_each_worker_is_left_out_with_a_warning(
    bench: TermBench, caplog: pytest.LogCaptureFixture, trigger: str, name: str
) -> None:
    """``start_date=datetime.now()`` at import: each takeover would begin another schedule."""
    for second in (0, 7):
        bench.registry = bench.new_registry()
        start = {name: bench.clock.now() - timedelta(microseconds=second + 1)}
        bench.registry.add(print, trigger, id="job", **({"hours": 1} if trigger == "interval" else {}), **start)
        await led(bench, second + 1, 1)
    assert len(logged(caplog, "start_left_out")) == 2
    (epoch,) = await bench.others.epochs()
    assert epoch.since <= NOW
    assert epoch.until is None


async def test_a_job_that_is_added_now_runs_at_once(tmp_path: Path) -> None:
    """By the real clock: a moment of now has odd microseconds, which is no sign of a start that the trigger guessed."""
    noted_at.clear()
    async with Election(tmp_path / "pool", heartbeat=0.1) as election:
        await election.add_job(noted, "interval", minutes=5, id="added", first_run="now")
        await until_async(lambda: noted_at, what="its first run")
        await election.jobs.modify("added", name="another name")
        job = await election.jobs.get("added")
        assert (job.broken, job.name) == (None, "another name")
