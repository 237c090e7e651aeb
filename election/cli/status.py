"""``python -m election status``: who leads, which workers there are, what the jobs do."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from datetime import UTC, datetime

from election.core.errors import LedgerError
from election.core.seat import Worker
from election.core.term import LeaderRecord
from election.engines import Engine
from election.schedule.facts import JobState
from election.schedule.history import RunRow
from election.schedule.ticks import first_after
from election.schedule.triggers import build

from .looking import engine_of, reading
from .show import show_json, show_table, text


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job as the ledger knows it. ``retired``: it is no longer in the code. ``last_…``: of its latest run."""

    id: str
    trigger: str
    next_run_time: datetime | None
    paused: bool
    retired: bool
    broken: str | None
    last_due: datetime | None
    last_outcome: str | None


async def status(options: Namespace) -> int:
    """Who leads; 0 if somebody does, 1 if nobody."""
    engine = engine_of(options)
    seen, workers = engine.seat.observe(), engine.seat.workers()
    record = seen.record if seen.led else None
    problem, jobs = None, []
    try:
        async with reading(engine) as ledger:
            known, last, now = await ledger.jobs(), await ledger.last_outcomes(), datetime.now(UTC)
            jobs = [_job_status(job, last.get(job.id), now) for job in known if not job.removed]
    except LedgerError as error:
        problem = str(error)
    if options.json:
        show_json(_document(engine, record, workers, jobs, problem))
    else:
        _show(engine, record, workers, jobs, problem)
    return 0 if record else 1


def _document(
    engine: Engine, record: LeaderRecord | None, workers: list[Worker], jobs: list[JobStatus], problem: str | None
) -> dict[str, object]:
    """In the words of ``GET /leader``."""
    leader = record and {
        "pid": record.holder.pid,
        "host": record.holder.host,
        "term": record.term,
        "elected_at": record.elected_at,
    }
    roles = [(worker, "leader" if record and worker.process == record.holder else "follower") for worker in workers]
    return {
        "pool": engine.pool,
        "engine": engine.name,
        "state": "led" if record else "electing",
        "leader": leader,
        "workers": [{"pid": one.process.pid, "role": role, "started_at": one.started_at} for one, role in roles],
        "jobs": jobs,
        "problem": problem,
    }


def _show(
    engine: Engine, record: LeaderRecord | None, workers: list[Worker], jobs: list[JobStatus], problem: str | None
) -> None:
    if record:
        print(f"{engine.pool}: pid {record.holder.pid} leads term {record.term} since {text(record.elected_at)}")
    else:
        print(f"{engine.pool}: nobody leads")
    followers = [str(worker.process.pid) for worker in workers if not record or worker.process != record.holder]
    print(f"followers: {', '.join(followers) or 'none'}")
    if problem:
        print(f"the ledger cannot be read: {problem}")
    if jobs:
        print()
        rows = ((job.id, _standing(job), job.next_run_time, job.last_due, job.last_outcome) for job in jobs)
        show_table(("JOB", "STATE", "NEXT", "LAST DUE", "OUTCOME"), rows)


def _job_status(job: JobState, last: RunRow | None, now: datetime) -> JobStatus:
    trigger = build(job.trigger, job.seen_at)
    paused = job.paused_at is not None and job.resume_at is None
    next_run_time = None
    if trigger is not None and not (paused or job.retired_at or job.broken):
        next_run_time = first_after(trigger, max(job.accounted_until, now))
    return JobStatus(
        id=job.id,
        trigger=str(trigger) if trigger else job.trigger["text"],
        next_run_time=next_run_time,
        paused=paused,
        retired=job.retired_at is not None,
        broken=job.broken,
        last_due=last.due if last else None,
        last_outcome=(last.outcome or "running") if last else None,
    )


def _standing(job: JobStatus) -> str:
    if job.broken:
        return f"broken: {job.broken}"
    if job.retired:
        return "no longer in the code"
    return "paused" if job.paused else "scheduled"
