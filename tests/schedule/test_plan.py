"""The plan of a new leader, as a table of jobs in the code and jobs in the ledger (P3, P4, docs/pitfalls.md#24,
#39).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from election.schedule.commands import EndPause, Entry, FinishRun, RegisterJob, RetireJob, Retry, Skip
from election.schedule.jobs import Job
from election.schedule.model import Copied, JobState, OpenRun, Outcome, SkipReason, State, StoredJob, Tick
from election.schedule.plan import Losses, Plan, make_plan
from election.schedule.triggers import describe
from tests.schedule.making import NOW, at, make_job, state_of

MICROSECOND = timedelta(microseconds=1)
DAY = 86400
DATE_OPEN = make_job("date", id="job")


def plan(
    jobs: Sequence[Job],
    *known: JobState,
    open_runs: Sequence[OpenRun] = (),
    settled_until: Mapping[str, datetime] | None = None,
    running: Collection[Tick] = (),
    now: datetime = NOW,
    copied: Copied | None = None,
    losses: Losses | None = None,
) -> Plan:
    return make_plan(
        {job.id: job for job in jobs},
        State(known, [], open_runs, copied),
        now=now,
        catch_up_limit=1000,
        settled_until=settled_until or {},
        running=running,
        losses=losses,
    )


def starts(made: Plan) -> dict[str, datetime]:
    return {job_id: due for job_id, (due, _) in made.starts.items()}


def every(seconds: float, **arguments: Any) -> Job:
    """A job with ticks every so many seconds, one of them at ``NOW``."""
    return make_job("interval", seconds=seconds, start_date=at(-400 * DAY), **arguments)


def enrol(job: Job, since: datetime = NOW) -> RegisterJob:
    return RegisterJob(job.id, job.schedule, at=NOW, since=since)


def skip(first: float, last: float, reason: SkipReason, count: int | None = 0, *, of: datetime | None = None) -> Skip:
    """of: beginning of the schedule that the skip belongs to; None where the schedule ends with it."""
    return Skip(
        "job", at(first), at(last), count if count != 0 else round(last - first) + 1, reason, NOW, scheduled_since=of
    )


EVERY = every(1)
CHANGED = every(7)
OPEN = make_job("interval", seconds=10)
CRON = make_job("cron", hour=3)
DATE_SOON, DATE_JUST_NOW, DATE_LONG_AGO = (make_job("date", run_date=at(s)) for s in (50, -5, -5 * DAY))
UNTOUCHED = every(1, id="another")
DOWN, PAUSED = SkipReason.DOWN, SkipReason.PAUSED


@pytest.mark.parametrize(
    ("job", "known", "entries", "start"),
    [
        # First registration: the job owes ticks from now on.
        pytest.param(EVERY, None, [enrol(EVERY)], at(1), id="first sight"),
        pytest.param(OPEN, None, [enrol(OPEN)], at(10), id="first sight of an open start: anchored now"),
        pytest.param(DATE_SOON, None, [enrol(DATE_SOON)], at(50), id="a date to come"),
        pytest.param(DATE_JUST_NOW, None, [enrol(DATE_JUST_NOW, at(-5) - MICROSECOND)], at(-5), id="a date just past"),
        pytest.param(
            DATE_LONG_AGO,
            None,
            [enrol(DATE_LONG_AGO, at(-5 * DAY) - MICROSECOND), skip(-5 * DAY, -5 * DAY, DOWN, of=NOW)],
            None,
            id="a date long past",
        ),
        # Known job: it continues where it stopped.
        pytest.param(EVERY, state_of(EVERY, until=at(0)), [], at(1), id="known, nothing owed"),
        pytest.param(EVERY, state_of(EVERY, until=at(-5)), [], at(-4), id="known, a short vacancy"),
        pytest.param(
            EVERY, state_of(EVERY, until=at(-60)), [skip(-59, -30, DOWN, of=NOW)], at(-29), id="known, a longer one"
        ),
        pytest.param(
            EVERY,
            state_of(EVERY, until=at(-30 * DAY)),
            [skip(-30 * DAY + 1, -30, DOWN, None, of=NOW)],
            at(-29),
            id="a month",
        ),
        pytest.param(
            OPEN, state_of(OPEN, scheduled_since=at(-13), until=at(-1)), [], at(7), id="an open start keeps its anchor"
        ),
        # Changed job: a new schedule from now on, and the ticks that the old one owed are skipped with a reason.
        pytest.param(EVERY, state_of(CHANGED), [enrol(EVERY)], at(1), id="changed, nothing owed"),
        pytest.param(
            CHANGED, state_of(EVERY, until=at(-9)), [skip(-8, 0, DOWN), enrol(CHANGED)], at(1), id="changed, some owed"
        ),
        pytest.param(
            CHANGED,
            state_of(EVERY, until=at(-9), paused_at=at(-9)),
            [skip(-8, 0, PAUSED), enrol(CHANGED)],
            None,
            id="changed while it was paused: paused still",
        ),
        pytest.param(
            DATE_SOON, state_of(EVERY, until=at(-2)), [skip(-1, 0, DOWN), enrol(DATE_SOON)], at(50), id="now a date"
        ),
        # A later schedule never begins before ``settled_until``.
        pytest.param(
            DATE_LONG_AGO,
            state_of(EVERY, until=at(-2)),
            [skip(-1, 0, DOWN), enrol(DATE_LONG_AGO)],
            None,
            id="now a date long past: it owes nothing",
        ),
        pytest.param(
            EVERY, state_of(CHANGED, until=at(3600)), [enrol(EVERY, at(3600))], at(3601), id="the clock was set back"
        ),
        # Removed and back again.
        pytest.param(
            EVERY, state_of(EVERY, until=at(-60), retired_at=at(-55)), [enrol(EVERY)], at(1), id="back after an absence"
        ),
        pytest.param(
            DATE_JUST_NOW,
            state_of(DATE_JUST_NOW, until=at(-3600), retired_at=at(-3600)),
            [enrol(DATE_JUST_NOW, at(-5) - MICROSECOND)],
            at(-5),
            id="a date whose moment came while it was gone",
        ),
        # Paused and resumed.
        pytest.param(EVERY, state_of(EVERY, until=at(-60), paused_at=at(-60)), [], None, id="paused"),
        pytest.param(
            EVERY,
            state_of(EVERY, until=at(-60), paused_at=at(-60), resume_at=at(-2)),
            [skip(-59, -2, PAUSED, of=NOW), EndPause("job", at(-2))],
            at(-1),
            id="resumed",
        ),
        pytest.param(
            EVERY,
            state_of(EVERY, until=at(-DAY), paused_at=at(-DAY), resume_at=at(-60)),
            [skip(-DAY + 1, -60, PAUSED, None, of=NOW), EndPause("job", at(-60)), skip(-59, -30, DOWN, of=NOW)],
            at(-29),
            id="resumed while nobody led",
        ),
        pytest.param(
            CRON,
            state_of(CRON, until=at(-60), paused_at=at(-60), resume_at=at(-2)),
            [EndPause("job", at(-2))],
            datetime(2026, 3, 3, 3, tzinfo=NOW.tzinfo),
            id="resumed, and nothing was due",
        ),
        # A date runs once, ever.
        pytest.param(DATE_SOON, state_of(DATE_SOON, until=at(50)), [], None, id="a date that was run"),
        pytest.param(DATE_JUST_NOW, state_of(DATE_JUST_NOW, until=at(-3600)), [], at(-5), id="a date in the vacancy"),
        pytest.param(
            DATE_LONG_AGO,
            state_of(DATE_LONG_AGO, until=at(-6 * DAY)),
            [skip(-5 * DAY, -5 * DAY, DOWN, of=NOW)],
            None,
            id="a date in a long vacancy",
        ),
        pytest.param(
            DATE_JUST_NOW,
            state_of(DATE_JUST_NOW, until=at(-5), retired_at=at(-2)),
            [enrol(DATE_JUST_NOW, at(-5))],
            None,
            id="a date that was run, gone and back",
        ),
        pytest.param(
            DATE_OPEN,
            state_of(DATE_OPEN, scheduled_since=at(-DAY), until=at(-DAY), retired_at=at(-60)),
            [enrol(DATE_OPEN)],
            None,
            id="a date without a date that was run at its first registration, gone and back",
        ),
        # Jobs added at run time follow the same rules.
        pytest.param(
            EVERY,
            state_of(EVERY, until=at(-5), stored=StoredJob("module:function")),
            [],
            at(-4),
            id="stored at run time",
        ),
    ],
)
def test_one_job(job: Job, known: JobState | None, entries: list[Entry], start: datetime | None) -> None:
    made = plan([job], *([known] if known else []))
    assert made.entries == entries
    assert starts(made) == ({"job": start} if start else {})


@pytest.mark.parametrize(
    ("known", "entries"),
    [
        pytest.param(state_of(EVERY), [RetireJob("job", NOW)], id="nothing owed"),
        pytest.param(state_of(EVERY, until=at(-3)), [skip(-2, 0, DOWN), RetireJob("job", NOW)], id="some owed"),
        pytest.param(
            state_of(EVERY, until=at(-3), paused_at=at(-3)), [skip(-2, 0, PAUSED), RetireJob("job", NOW)], id="paused"
        ),
        pytest.param(state_of(EVERY, until=at(-3), retired_at=at(-2)), [], id="gone already"),
        pytest.param(state_of(EVERY, until=at(-3), stored=StoredJob("m:f")), [], id="stored, and broken now"),
        pytest.param(
            state_of(EVERY, until=at(-3), stored=StoredJob("m:f"), removed=True), [], id="stored, and removed"
        ),
    ],
)
def test_a_job_that_vanished_from_the_code_owes_nothing_more(known: JobState, entries: list[Entry]) -> None:
    made = plan([UNTOUCHED], known, state_of(UNTOUCHED))
    assert made.entries == entries
    assert list(made.starts) == ["another"]


@pytest.mark.parametrize(
    ("job", "known", "settled_until", "entries", "start"),
    [
        pytest.param(EVERY, state_of(EVERY, until=at(-60)), at(-3), [], at(-2), id="an older ledger was put back"),
        pytest.param(EVERY, state_of(EVERY, until=at(-3)), at(-60), [], at(-2), id="the ledger knows more"),
        pytest.param(EVERY, None, at(5), [enrol(EVERY, at(5))], at(6), id="a new ledger: no tick before the last one"),
        pytest.param(
            DATE_JUST_NOW, None, at(-5), [enrol(DATE_JUST_NOW, at(-5))], None, id="a new ledger: no date a second time"
        ),
    ],
)
def test_p3_what_this_leader_remembers_beats_a_ledger_that_lost_its_past(
    job: Job, known: JobState | None, settled_until: datetime, entries: list[Entry], start: datetime | None
) -> None:
    made = plan([job], *([known] if known else []), settled_until={"job": settled_until})
    assert made.entries == entries
    assert starts(made) == ({"job": start} if start else {})


INTERRUPTED = "the leader of term 6 was gone before the run ended"
TICK = Tick("job", at(-1))


def test_p4_a_schedule_that_ends_owes_what_was_not_handed_over() -> None:
    """A skip that began with claimed ticks was refused as a whole, with the ticks after them."""
    known = JobState("job", EVERY.schedule, at(-100), at(-10))
    made = plan([CHANGED], known, settled_until={"job": at(-4)})
    assert [entry for entry in made.entries if isinstance(entry, Skip)] == [skip(-3, 0, DOWN)]


@pytest.mark.parametrize(
    ("jobs", "entries", "reruns"),
    [
        pytest.param(
            [every(1)], [FinishRun(TICK, Outcome.INTERRUPTED, NOW, INTERRUPTED)], [], id="settled, so the job goes on"
        ),
        pytest.param(
            [every(1, rerun_interrupted=True)],
            [Retry(TICK, Outcome.INTERRUPTED, NOW, INTERRUPTED)],
            [OpenRun(TICK, 6, 3, interruptions=1)],
            id="tried again, as the next attempt of the same tick",
        ),
        pytest.param([], [FinishRun(TICK, Outcome.INTERRUPTED, NOW, INTERRUPTED)], [], id="its job is gone"),
    ],
)
def test_pitfall_39_runs_that_a_dead_leader_left_open(
    jobs: list[Job], entries: list[Entry], reruns: list[OpenRun]
) -> None:
    known = [state_of(job, until=at(0)) for job in jobs]
    made = plan(jobs, *known, open_runs=[OpenRun(TICK, 6, 2)])
    assert made.entries == entries
    assert made.reruns == reruns


def test_p3_what_runs_here_now_is_left_alone() -> None:
    job = every(1, rerun_interrupted=True)
    made = plan([job], state_of(job), open_runs=[OpenRun(TICK, 7, 1)], running={TICK})
    assert made.entries == []
    assert made.reruns == []


def test_pitfall_49_a_copy_leaves_to_the_original_what_it_owed() -> None:
    """Ticks and open runs from before its first term here; later ones belong to its own ledger."""
    job, copied = every(10, rerun_interrupted=True, misfire_grace_time=None), Copied(at(-25), 5)
    theirs, ours = OpenRun(Tick("job", at(-60)), 4, 1), OpenRun(Tick("job", at(-30)), 5, 1)
    made = plan([job], state_of(job, until=at(-55)), open_runs=[theirs, ours], copied=copied)
    assert skip(-50, -30, SkipReason.COPIED, 3, of=NOW) in made.entries
    assert starts(made) == {"job": at(-20)}
    assert [run.tick for run in made.reruns] == [ours.tick]
    [given_up] = [entry for entry in made.entries if isinstance(entry, FinishRun)]
    assert (given_up.tick, given_up.outcome) == (theirs.tick, Outcome.INTERRUPTED)
    assert "the leader of term 4" in (given_up.error or "")
    assert made.given_up == [], "nothing that anybody has to look at"


CRON_SECONDS = make_job("cron", second="*/10")
FIRST_RUN = make_job("cron", second="*/10", first_run="now")
DATE_BEFORE, DATE_BETWEEN, DATE_LATER = (make_job("date", run_date=at(s)) for s in (-40, -20, 20))
DATE_OPEN = make_job("date")
LOST, LOST_SINCE = SkipReason.LOST, at(-35)


@pytest.mark.parametrize(
    ("job", "entries", "start"),
    [
        pytest.param(CRON_SECONDS, [enrol(CRON_SECONDS, LOST_SINCE), skip(-30, 0, LOST, 4, of=NOW)], at(10), id="cron"),
        pytest.param(
            FIRST_RUN,
            [enrol(FIRST_RUN, LOST_SINCE), skip(-30, 0, LOST, 4, of=NOW)],
            at(10),
            id="no first run",
        ),
        pytest.param(OPEN, [enrol(OPEN, LOST_SINCE)], at(10), id="an interval from now on"),
        pytest.param(DATE_BEFORE, [enrol(DATE_BEFORE, LOST_SINCE)], None, id="a date that has passed before"),
        pytest.param(
            DATE_BETWEEN,
            [enrol(DATE_BETWEEN, LOST_SINCE), skip(-20, -20, LOST, 1, of=NOW)],
            None,
            id="a date since",
        ),
        pytest.param(
            DATE_OPEN, [enrol(DATE_OPEN, LOST_SINCE), skip(0, 0, LOST, 1, of=NOW)], None, id="a date that is now"
        ),
        pytest.param(DATE_LATER, [enrol(DATE_LATER, LOST_SINCE)], at(20), id="a date to come"),
    ],
)
def test_p3_p4_a_ledger_that_was_lost(job: Job, entries: list[Entry], start: datetime | None) -> None:
    """Ticks that fell due since the last term are skipped as lost; nothing that may have run before runs again."""
    made = plan([job], losses=Losses(LOST_SINCE, NOW, {}))
    assert made.entries == entries
    assert starts(made) == ({} if start is None else {"job": start})


@pytest.mark.parametrize("job", [EVERY, FIRST_RUN, DATE_OPEN])
def test_a_job_that_no_ledger_had_is_new(job: Job) -> None:
    """Also in a term that goes on with another ledger."""
    made, new = plan([job], losses=Losses(None, at(-5), {"another": at(-5)})), plan([job])
    assert (made.entries, starts(made)) == (new.entries, starts(new))


@pytest.mark.parametrize(
    ("job", "handed_over", "start"),
    [
        pytest.param(EVERY, at(-3), at(-2), id="goes on after the last tick"),
        pytest.param(OPEN, at(-7), at(3), id="keeps the phase"),
        pytest.param(OPEN, None, at(-7), id="no tick yet"),
        pytest.param(FIRST_RUN, at(-17), at(-10), id="no first run"),
        pytest.param(DATE_OPEN, at(-17), None, id="a single run is over"),
    ],
)
def test_p3_p4_a_ledger_that_was_lost_within_the_term(
    job: Job, handed_over: datetime | None, start: datetime | None
) -> None:
    """The leader knows what it has planned and handed over, and goes on from there."""
    planned, began = at(-17), at(-16)
    losses = Losses(None, began, {"job": planned})
    made = plan([job], settled_until={} if handed_over is None else {"job": handed_over}, losses=losses)
    assert made.entries == [RegisterJob("job", job.schedule, at=planned, since=handed_over or began)]
    assert starts(made) == ({} if start is None else {"job": start})
    assert made.schedules == {"job": planned}


def test_a_trigger_class_of_the_users_own_goes_on_too() -> None:
    class Own(type(EVERY.trigger).__mro__[1]):  # type: ignore[misc]
        def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
            return at(3600)

    job = make_job(Own())
    assert starts(plan([job])) == {"job": at(3600)}
    assert starts(plan([job], state_of(job, until=at(-5)))) == {"job": at(3600)}
    assert plan([EVERY], state_of(job, until=at(-5))).entries == [enrol(EVERY)], "what it owed nobody can tell"


def test_p6_a_trigger_that_hangs_on_no_registration_is_built_once() -> None:
    """When the job is defined, and not at each takeover; a relative start continues from its own beginning."""
    fixed, anchored = make_job("cron", hour=4, id="fixed"), make_job(seconds=7, id="anchored")
    first, second = (
        plan([fixed, anchored], state_of(fixed), state_of(anchored, scheduled_since=at(scheduled_since)))
        for scheduled_since in (0, -3)
    )
    assert first.starts["fixed"][1] is second.starts["fixed"][1]
    assert describe(fixed.built, NOW) == fixed.schedule
    assert anchored.built is None
    assert (starts(first)["anchored"], starts(second)["anchored"]) == (at(7), at(4))


def test_entries_stand_in_the_order_in_which_they_can_be_written() -> None:
    """Each skip ends before the next begins, and a registration before the skips of its schedule."""
    resumed = state_of(EVERY, until=at(-DAY), paused_at=at(-DAY), resume_at=at(-90))
    made = plan([EVERY], resumed)
    ends = [entry.until if isinstance(entry, EndPause) else entry.last_due for entry in made.entries]  # type: ignore[union-attr]
    assert ends == sorted(ends)
    assert starts(made)["job"] > ends[-1]
