"""Coming ticks of a pool in order, with the zone of each; and remarks on jobs that a clock change moves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from election.schedule import upcoming
from election.schedule.lint import MAX_TOGETHER, remarks_on
from election.schedule.triggers import build
from election.schedule.upcoming import PlannedJobs
from tests.schedule.making import NOW, at, make_job, state_of
from tests.schedule.term_bench import TermBench
from tests.support.logs import logged

pytestmark = pytest.mark.anyio

BERLIN, LISBON = ZoneInfo("Europe/Berlin"), ZoneInfo("Europe/Lisbon")
SPRING = datetime(2026, 3, 27, 12, tzinfo=UTC)


def test_ticks_of_all_jobs_come_in_order() -> None:
    slow = state_of(make_job("interval", id="slow", seconds=60, start_date=NOW))
    fast = state_of(make_job("interval", id="fast", seconds=25, start_date=NOW))
    found = [(tick.job_id, tick.due) for tick in PlannedJobs([slow, fast]).coming_ticks(now=NOW, limit=5)]
    assert found == [("fast", at(25)), ("fast", at(50)), ("slow", at(60)), ("fast", at(75)), ("fast", at(100))]
    assert len(PlannedJobs([slow, fast]).coming_ticks(now=NOW, until=at(60), limit=100)) == 3


def test_what_is_settled_already_does_not_come() -> None:
    job = make_job("interval", seconds=60, start_date=NOW)
    (tick,) = PlannedJobs([state_of(job, until=at(600))]).coming_ticks(now=NOW, limit=1)
    assert tick.due == at(660)


@pytest.mark.parametrize("state", [{"paused_at": NOW}, {"retired_at": NOW}, {"removed": True}, {"broken": "why"}])
def test_a_job_that_is_not_run_has_none(state: dict[str, object]) -> None:
    job = state_of(make_job("interval", seconds=60), **state)
    assert PlannedJobs([job]).coming_ticks(now=NOW, limit=5) == []
    assert PlannedJobs([job]).unknown_triggers() == []


def test_a_trigger_class_of_the_users_own_is_named() -> None:
    own = replace(state_of(make_job("interval", seconds=60)), trigger={"type": "other", "text": "own"})
    assert PlannedJobs([own]).coming_ticks(now=NOW, limit=5) == []
    assert PlannedJobs([own]).unknown_triggers() == ["job"]


def test_each_trigger_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand jobs take a while: ticks, remarks and unknown triggers share the triggers."""
    built = []
    monkeypatch.setattr(upcoming, "build", lambda trigger, since: built.append(trigger) or build(trigger, since))
    planned = PlannedJobs([state_of(make_job("cron", id=f"job-{number}", hour=3)) for number in range(5)])
    assert len(planned.coming_ticks(now=NOW, limit=10)) == 10
    assert (planned.unknown_triggers(), planned.remarks(NOW)) == ([], [])
    assert len(built) == 5


def test_each_tick_has_its_zone_and_a_mark_where_the_clocks_change() -> None:
    """02:30 is left out on the 29th, and runs at 03:00."""
    job = state_of(make_job("cron", hour=2, minute=30, timezone=BERLIN), until=SPRING)
    plain, moved, after = PlannedJobs([job]).coming_ticks(now=SPRING, limit=3)
    assert (plain.timezone, plain.local.isoformat()) == ("Europe/Berlin", "2026-03-28T02:30:00+01:00")
    assert (plain.clock_change, plain.clock_change_s) == (None, None)
    assert (moved.due, moved.local.isoformat()) == (datetime(2026, 3, 29, 1, tzinfo=UTC), "2026-03-29T03:00:00+02:00")
    assert (moved.clock_change, moved.clock_change_s) == (datetime(2026, 3, 29, 1, tzinfo=UTC), 3600)
    assert after.clock_change is None


def test_an_interval_has_no_zone() -> None:
    job = state_of(make_job("interval", hours=1, jitter=30, timezone=BERLIN))
    (tick,) = PlannedJobs([job]).coming_ticks(now=NOW, limit=1)
    assert (tick.timezone, tick.local, tick.clock_change, tick.jitter_s) == (None, tick.due, None, 30)


# --- remarks ---------------------------------------------------------------------------------------------------------


def test_a_clock_change_that_moves_a_job_is_remarked_on() -> None:
    triggers = {
        "night": make_job("cron", hour=2, minute=30, timezone=BERLIN).trigger,
        "noon": make_job("cron", hour=12, timezone=BERLIN).trigger,
        "often": make_job("cron", minute="*/10", timezone=BERLIN).trigger,
        "sunday": make_job("cron", day_of_week="mon", hour=2, timezone=BERLIN).trigger,
        "elapsed": make_job("interval", hours=1).trigger,
    }
    spring, autumn = remarks_on(triggers, SPRING)
    assert spring == (
        "on 2026-03-29 the clocks of Europe/Berlin leave out 02:00 to 03:00; what is due in between runs at 03:00:"
        " 'night'"
    )
    assert autumn == (
        "on 2026-10-25 the clocks of Europe/Berlin show 02:00 to 03:00 twice; what is due in between runs once, the"
        " first time: 'night'"
    )
    assert remarks_on(triggers, SPRING + timedelta(days=30)) == [autumn]


@pytest.mark.parametrize(("jobs", "remarks"), [(MAX_TOGETHER, 0), (60, 1)])
def test_many_jobs_at_one_moment_are_remarked_on(jobs: int, remarks: int) -> None:
    triggers = {f"job-{number:02}": make_job("cron", hour=3).trigger for number in range(jobs)}
    found = remarks_on(triggers, NOW)
    assert len(found) == remarks
    for remark in found:
        assert remark.startswith("60 jobs are due at the same moment, next at 2026-03-03 03:00:00 UTC")
        assert remark.endswith("'job-00', 'job-01', 'job-02', 'job-03', 'job-04' and 55 more")
    spread = {job_id: make_job("cron", hour=3, jitter=600).trigger for job_id in triggers}
    assert remarks_on(spread, NOW) == []


async def test_each_leader_logs_the_remarks_on_its_jobs(bench: TermBench, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(MAX_TOGETHER + 1):
        bench.registry.add(print, "cron", id=f"job-{number}", hour=3, timezone="UTC")
    with caplog.at_level("INFO", "election"):
        async with bench.term(1):
            await bench.until(lambda: logged(caplog, "schedule_remark"))
    (remark,) = logged(caplog, "schedule_remark")
    assert "31 jobs are due at the same moment" in remark.getMessage()


async def test_pitfall_52_a_zone_that_differs_between_hosts_is_told(
    bench: TermBench, caplog: pytest.LogCaptureFixture
) -> None:
    for number, zone in enumerate([BERLIN, LISBON, LISBON], 1):
        bench.registry = bench.new_registry()
        bench.registry.add(print, "cron", id="job", hour=3, timezone=zone)
        async with bench.term(number):
            await bench.clock.advance(1)
    (told,) = logged(caplog, "zone_changed")
    assert "was Europe/Berlin and is Europe/Lisbon now" in told.getMessage()
