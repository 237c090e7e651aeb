"""Plan of a leader: a pure function of the jobs and the ledger's state.

The same plan serves at a takeover, after the ledger was out of reach, and after a job was paused or added.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from apscheduler.triggers.base import BaseTrigger

from election.core.backoff import backoff_s
from election.core.errors import what_went_wrong

from .catchup import catch_up, given_up, owes_from, skipped
from .commands import EndPause, Entry, FinishJob, FinishRun, MarkBroken, RegisterJob, RetireJob, Retry
from .jobs import Job
from .model import Copied, JobState, OpenRun, Outcome, SkipReason, State, Tick
from .ticks import TriggerError, with_seed
from .triggers import build, is_open

RERUN_DELAY_S = 5.0
"""Delay before the second rerun of a tick; doubled for each further one."""

MAX_RERUN_DELAY_S = 5120.0

NOT_IN_THIS_CODE = (
    "the leader's code does not have this job, and a live worker has other code;"
    " the job goes on when a worker that has it leads"
)
"""Why a job that the leader cannot run is not retired: a deploy may be under way (docs/pitfalls.md#50)."""

_MICROSECOND = timedelta(microseconds=1)
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Losses:
    """Knowledge about jobs that the ledger does not have, and may have lost.

    Attributes:
        since: End of the term before, if the ledger was lost before this term; None if it was not.
        began: Beginning of this term.
        schedules: Beginning of each job's schedule, as this term has planned and written it, by job.
    """

    since: datetime | None
    began: datetime
    schedules: Mapping[str, datetime]


@dataclass(slots=True)
class Plan:
    """entries: what to write, in order, before anything starts.
    starts: when each job that is not paused goes on, and its trigger.
    schedules: when the schedule of each job began: its ``scheduled_since`` once this is written.
    reruns: runs that a former leader left open, to be tried again; their attempt is the new one.
    given_up: open runs that have been interrupted too often to be tried again.
    broken: why a job cannot be planned, by id; the others go on.
    kept: ids of jobs that are not in the leader's code, and not retired yet.
    exhausted: until when each job is settled whose schedule has no further tick.
    """

    entries: list[Entry] = field(default_factory=list)
    starts: dict[str, tuple[datetime, BaseTrigger]] = field(default_factory=dict)
    schedules: dict[str, datetime] = field(default_factory=dict)
    reruns: list[OpenRun] = field(default_factory=list)
    given_up: list[OpenRun] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    exhausted: dict[str, datetime] = field(default_factory=dict)

    def add(self, other: Plan) -> None:
        """Add the plan of one job."""
        self.entries += other.entries
        self.starts |= other.starts
        self.schedules |= other.schedules
        self.exhausted |= other.exhausted


def make_plan(
    jobs: Mapping[str, Job],
    state: State,
    *,
    now: datetime,
    catch_up_limit: int,
    settled_until: Mapping[str, datetime | None],
    running: Collection[Tick],
    starting: Collection[str] = (),
    peers_differ: bool = False,
    losses: Losses | None = None,
) -> Plan:
    """Plan for ``jobs``, by id, those of the code and those that were added at run time.

    settled_until: the last tick of each job that this leader handed over, in case the ledger has lost it.
    running: the ticks that run in this process now, and so are open for a reason.
    peers_differ: whether a living worker has other jobs in its code; then none is retired.
    starting: the jobs of which no tick was handed over in this term yet; those with ``at_start`` run now.
    losses: about jobs that the ledger does not have; None if all of these are new.
    """
    plan = Plan()
    known = {found.id: found for found in state.jobs}
    for job in jobs.values():
        found = known.get(job.id)
        part, error = Plan(), None
        try:
            handed_over, starts = settled_until.get(job.id), job.at_start and job.id in starting
            if found is None:
                current = _register(part, job, now, handed_over, losses)
            else:
                current = _without_original(part, job, found, state.copied, now)
            _plan_job(part, job, current, now, catch_up_limit, handed_over or _NEVER, starts)
        except BaseException as reason:  # of a trigger; one job's error is no other's
            error = describe_broken(reason)
            part = _plan_of_broken(job, found, now)
            plan.broken[job.id] = error
        plan.add(part)
        if error != (found.broken if found else None):
            plan.entries.append(MarkBroken(job.id, error))
    for found in unknown_jobs(jobs, state):
        if peers_differ:
            plan.kept.append(found.id)
            if found.broken != NOT_IN_THIS_CODE:
                plan.entries.append(MarkBroken(found.id, NOT_IN_THIS_CODE))
        else:
            with contextlib.suppress(BaseException):  # the owed ticks of a trigger that raises cannot be computed
                _give_up(plan, found, now)
            plan.entries.append(RetireJob(found.id, now))
    for run in state.open_runs:
        if run.tick not in running:
            _plan_open_run(plan, jobs.get(run.tick.job_id), known.get(run.tick.job_id), run, state.copied, now)
    plan.entries += [  # after those of their runs that ended with the former leader
        FinishJob(job_id, plan.schedules[job_id], until, now)
        for job_id, until in plan.exhausted.items()
        if job_id in known and known[job_id].stored is not None
    ]
    return plan


def unknown_jobs(jobs: Mapping[str, Job], state: State) -> list[JobState]:
    """Jobs of some worker's code, now or before, that are not among ``jobs`` and not retired."""
    return [found for found in state.jobs if found.id not in jobs and found.stored is None and found.retired_at is None]


def describe_broken(error: BaseException) -> str:
    """Text of the reason why a job's ticks cannot be computed."""
    return str(error) if isinstance(error, TriggerError) else f"its trigger raises {what_went_wrong(error)}"


def _plan_of_broken(job: Job, found: JobState | None, now: datetime) -> Plan:
    """Plan of a job whose trigger raises: no runs; its owed ticks are computed when the trigger can be used again."""
    if found is None or found.retired_at is not None:
        return Plan([RegisterJob(job.id, job.schedule, at=now, since=now)], schedules={job.id: now})
    return Plan(schedules={job.id: found.scheduled_since})


def _register(plan: Plan, job: Job, now: datetime, handed_over: datetime | None, losses: Losses | None) -> JobState:
    """Register a job that the ledger does not have; returns its state then.

    If this term had planned it already, it goes on with the same schedule, after the last tick that was handed over. If
    the ledger was lost before the term, what fell due since is skipped: part of it may have run.
    """
    at, over = now, None
    if losses is not None and job.id in losses.schedules:
        at, since = losses.schedules[job.id], handed_over or losses.began
        until = since
    elif losses is not None and losses.since is not None:
        since, until = losses.since, now
        over = skipped(job.id, _trigger(job, now), since, until, now, SkipReason.LOST)
    else:
        since = until = max(owes_from(_trigger(job, now), now), handed_over or _NEVER)
    plan.entries.append(RegisterJob(job.id, job.schedule, at=at, since=since))
    if over is not None:
        plan.entries.append(replace(over, scheduled_since=at))
    return JobState(job.id, job.schedule, at, until)


def _without_original(plan: Plan, job: Job, found: JobState, copied: Copied | None, now: datetime) -> JobState:
    """Return the job with the ticks that a copy leaves to its original; see ``Copied``."""
    if copied is None or found.retired_at is not None or found.paused or found.settled_until >= copied.at:
        return found
    trigger = build(found.trigger, found.scheduled_since)
    if trigger is not None:
        over = skipped(job.id, trigger, found.settled_until, copied.at, now, SkipReason.COPIED)
        if over is not None:
            plan.entries.append(replace(over, scheduled_since=found.scheduled_since))
    return replace(found, settled_until=copied.at)


def _plan_job(
    plan: Plan, job: Job, found: JobState, now: datetime, limit: int, handed_over: datetime, starts: bool
) -> None:
    if found.retired_at is not None or found.trigger != job.schedule:
        trigger = _trigger(job, now)
        owing = replace(found, settled_until=max(found.settled_until, handed_over))
        until = max(owes_from(trigger, now, is_new=False), _give_up(plan, owing, now))
        if _has_run_once(found) and found.trigger == job.schedule:  # it was retired, and has come back
            until = max(until, now)
        plan.entries.append(RegisterJob(job.id, job.schedule, at=now, since=until))
        scheduled_since = now
    else:
        scheduled_since = found.scheduled_since
        trigger, until = _trigger(job, scheduled_since), max(handed_over, found.settled_until)
    plan.schedules[job.id] = scheduled_since
    if found.paused:
        return
    if found.resume_at is not None:
        over = skipped(job.id, trigger, until, found.resume_at, now, SkipReason.PAUSED)
        if over is not None:
            plan.entries.append(replace(over, scheduled_since=scheduled_since))
        plan.entries.append(EndPause(job.id, found.resume_at))
        until = max(until, found.resume_at)
    caught = catch_up(
        job.id,
        trigger,
        settled_until=until,
        now=now,
        misfire_grace_time=job.misfire_grace_time,
        limit=limit,
    )
    if caught.skip is not None:
        plan.entries.append(replace(caught.skip, scheduled_since=scheduled_since))
    next_due = caught.next_due
    if starts and found.resume_at is None:  # a start within a pause is no tick
        now = max(now, until + _MICROSECOND)  # an additional tick, after the settled ones
        next_due = now if next_due is None else min(now, next_due)
    if next_due is not None:
        plan.starts[job.id] = (next_due, trigger)
    else:
        plan.exhausted[job.id] = until


def _has_run_once(found: JobState) -> bool:
    """Whether the one tick of a date without a date, which is the moment of the first registration, is settled."""
    is_once = found.trigger["type"] == "date" and is_open(found.trigger)
    return is_once and found.settled_until >= found.scheduled_since


def _trigger(job: Job, anchor: datetime) -> BaseTrigger:
    return with_seed(job.built or build(job.schedule, anchor) or job.trigger, job.id)


def _give_up(plan: Plan, found: JobState, now: datetime) -> datetime:
    """End the schedule of ``found``: skip the ticks that it still owes. Returns until when it is then settled."""
    over = given_up(found, now) if found.retired_at is None else None
    if over is None:
        return found.settled_until
    plan.entries.append(over)
    return over.last_due


def _plan_open_run(
    plan: Plan, job: Job | None, found: JobState | None, run: OpenRun, copied: Copied | None, now: datetime
) -> None:
    error = f"the leader of term {run.term} was gone before the run ended"
    interruptions = run.interruptions + 1
    if copied is not None and run.term < copied.term:
        error = f"the leader of term {run.term}, at the place where this ledger was copied, may run it"
        plan.entries.append(FinishRun(run.tick, Outcome.INTERRUPTED, now, error))
    elif job is None or not job.rerun_interrupted:
        plan.entries.append(FinishRun(run.tick, Outcome.INTERRUPTED, now, error))
    elif found is not None and found.paused:
        plan.entries.append(FinishRun(run.tick, Outcome.INTERRUPTED, now, f"{error}; it is not run again: paused"))
    elif interruptions > job.max_reruns:
        plan.given_up.append(run)
        error += f"; it is not run again: interrupted {interruptions} times"
        plan.entries.append(FinishRun(run.tick, Outcome.INTERRUPTED, now, error))
    else:
        plan.entries.append(Retry(run.tick, Outcome.INTERRUPTED, now, error))
        plan.reruns.append(replace(run, attempt=run.attempt + 1, interruptions=interruptions))


def rerun_delay_s(interruptions: int) -> float:
    """Back-off before a rerun: none before the first, because most leaders do not die of the run itself."""
    return 0.0 if interruptions <= 1 else backoff_s(RERUN_DELAY_S, interruptions - 2, MAX_RERUN_DELAY_S)
