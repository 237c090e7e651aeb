"""The documents of the HTTP interface."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from election.core.seat import Observation, Worker
from election.core.term import LeaderRecord, Reason, Standing
from election.schedule.model import Action, AuditAction, Outcome, RequestOutcome, SkipReason


class Leader(BaseModel):
    pid: int
    host: str
    term: int
    elected_at: datetime
    heartbeat_age_s: float = Field(description="seconds since this worker last saw the leader's heartbeat move")
    responsive: bool = Field(description="whether that is less than the pool's stalled_after")
    queued: int = Field(description="runs that wait for a thread, since max_threads of the leader are busy")


class AnsweredBy(BaseModel):
    pid: int
    host: str
    role: Literal["leader", "follower"]


class WorkerEntry(BaseModel):
    pid: int
    host: str
    role: Literal["leader", "follower"]
    started_at: datetime
    candidate: bool = Field(True, description="whether it may lead")


class TakeoverEntry(BaseModel):
    term: int
    from_pid: int | None
    to_pid: int
    reason: Reason
    takeover_ms: float | None = Field(description="from learning of the vacancy to the scheduler running")
    vacant_s: float | None = Field(description="from the end of the term before, or its last heartbeat, to this term")
    at: datetime


class JobEntry(BaseModel):
    id: str
    name: str
    description: str | None = Field(description="what the job is for, in words")
    tags: list[str] = Field(description="words to find the job by")
    trigger: str
    timezone: str | None = Field(None, description="zone by whose clocks the trigger goes; null for elapsed time")
    next_run_time: datetime | None = Field(
        description="first tick that is not settled yet; in the past while it is owed"
    )
    paused: bool
    broken: str | None = Field(None, description="why the job cannot be run")
    running: int = Field(0, description="runs that have not ended, those that wait for a thread included")
    running_since: datetime | None = Field(None, description="when the oldest of them was claimed")


class LeaderDocument(BaseModel):
    """Leader of the pool, as the answering worker sees it."""

    pool: str
    engine: str
    state: Literal["led", "electing"]
    leader: Leader | None
    answered_by: AnsweredBy
    workers: list[WorkerEntry]
    last_takeover: TakeoverEntry | None
    jobs: list[JobEntry] = Field(
        description="up to 100 jobs of the code, and of those that were added at run time the 100 that are due soonest;"
        " GET /leader/jobs has all"
    )
    jobs_total: int = Field(0, description="how many jobs the pool has")
    problem: str | None = Field(description="what keeps the seat from being taken, in words; null if nothing does")


def leader(seen: Observation, *, stalled_after: float) -> Leader | None:
    """The leader's part of the document; None if no leader is known."""
    if not seen.led or seen.record is None or seen.heartbeat_age_s is None:
        return None
    return Leader(
        pid=seen.record.holder.pid,
        host=seen.record.holder.host,
        term=seen.record.term,
        elected_at=seen.record.elected_at,
        heartbeat_age_s=round(seen.heartbeat_age_s, 2),
        responsive=seen.heartbeat_age_s < stalled_after,
        queued=seen.record.queued,
    )


def workers(found: list[Worker], leading: LeaderRecord | None) -> list[WorkerEntry]:
    """The workers' part of the document. leading: record of the leader, None if no leader is known."""
    return [
        WorkerEntry(
            pid=worker.process.pid,
            host=worker.process.host,
            role="leader" if leading and _is(worker, leading) else "follower",
            started_at=worker.started_at,
            candidate=worker.candidate,
        )
        for worker in found
    ]


def _is(worker: Worker, leading: LeaderRecord) -> bool:
    return (worker.process.pid, worker.process.host) == (leading.holder.pid, leading.holder.host)


def last_takeover(record: LeaderRecord | None) -> TakeoverEntry | None:
    """The latest takeover, from the leader record."""
    return None if record is None else TakeoverEntry.model_validate(record.takeover, from_attributes=True)


RunState = Literal["running", "succeeded", "failed", "interrupted"]


class RunEntry(BaseModel):
    seq: int
    job_id: str
    due: datetime
    request: int = Field(description="0 for a tick of the schedule, else the request to run the job now")
    term: int
    attempt: int
    claimed_at: datetime
    started_at: datetime | None = Field(None, description="when its code began; null until the first attempt has ended")
    ended_at: datetime | None
    outcome: Outcome | None = Field(description="null while it runs")
    error: str | None
    attempts: list[dict[str, Any]] = Field(description="the earlier attempts of the same tick")


class ListedJob(JobEntry):
    """A job in the list of all jobs."""

    last_run: RunEntry | None = Field(description="its latest run; null if there was none, or it has been pruned")


class Jobs(BaseModel):
    jobs: list[ListedJob]
    next: str | None = Field(description="`after` of the next page; null on the last")


class Runs(BaseModel):
    runs: list[RunEntry]
    next: int | None = Field(description="`before` of the next page; null on the last")


class LineEntry(BaseModel):
    at: datetime
    level: str
    logger: str
    text: str


class LogEntry(BaseModel):
    """Log of one attempt."""

    attempt: int
    traceback: str | None = Field(description="of the exception that ended it; null if it ended without one")
    lines: list[LineEntry] = Field(description="the latest lines that the job logged")
    dropped: int = Field(description="earlier lines that were too many to keep")


class RunDocument(RunEntry):
    """A run with the logs of its attempts, as far as they are kept."""

    logs: list[LogEntry]


class SkipEntry(BaseModel):
    seq: int
    job_id: str
    first_due: datetime
    last_due: datetime
    count: int | None = Field(description="ticks; null where they were too many to count")
    reason: SkipReason
    term: int
    at: datetime


class Skips(BaseModel):
    skips: list[SkipEntry]
    next: int | None = Field(description="`before` of the next page; null on the last")


class TermEntry(BaseModel):
    term: int
    pid: int
    host: str
    began_at: datetime
    reason: Reason
    from_pid: int | None
    takeover_ms: float | None
    ended_at: datetime | None = Field(description="null while it lasts, and for a leader that died")
    standing: Standing | None


class Terms(BaseModel):
    terms: list[TermEntry]
    next: int | None = Field(description="`before` of the next page; null on the last")


class ComingTickEntry(BaseModel):
    job_id: str
    due: datetime
    local: datetime = Field(description="the same by the clocks of the job's zone")
    timezone: str | None
    jitter_s: float = Field(description="seconds by which it may be later")
    clock_change: datetime | None = Field(description="when the clocks of the zone change, if shortly before or after")
    clock_change_s: float | None = Field(description="by how many seconds they are put forward then")


class Upcoming(BaseModel):
    ticks: list[ComingTickEntry]
    unknown: list[str] = Field(
        description="jobs with a trigger class of the user's own: only the leader can compute their ticks"
    )
    remarks: list[str] = Field(description="what a coming clock change will move, and many jobs due at once")


class Arguments(BaseModel):
    arguments: dict[str, str] = Field(
        description="the arguments by name, as Python writes them, shortened; of those named like a secret no value"
    )


class RunArguments(BaseModel):
    model_config = ConfigDict(extra="forbid")  # arguments that are not within ``kwargs`` would be dropped

    kwargs: dict[str, Any] = Field(
        {}, description="arguments of this run, in the place of the job's own of these names"
    )


class Accepted(BaseModel):
    """Written down; the leader carries it out within a heartbeat."""

    request: int | None = Field(description="its number, for GET /leader/requests/{number}; null where it has none")


class ChangedJobs(BaseModel):
    """Written down; the leader carries it out within a heartbeat."""

    jobs: list[str] = Field(description="ids of the jobs that have the tag")


class ChangeEntry(BaseModel):
    """A change, and who made it."""

    seq: int
    at: datetime
    by: str = Field(description="name that the application gave, `token`, a user of the command line, or a process")
    action: AuditAction
    job_id: str | None = Field(description="null for a change of the pool")
    before: str | None = Field(description="what it was, in short")
    after: str | None = Field(description="what it is now, in short")
    request: int | None = Field(description="number of the request, for GET /leader/requests/{number}")


class Changes(BaseModel):
    changes: list[ChangeEntry]
    next: int | None = Field(description="`before` of the next page; null on the last")


class RequestEntry(BaseModel):
    """A request and what became of it."""

    id: int
    action: Action
    job_id: str | None
    term: int | None = Field(description="whose leader was asked to resign")
    at: datetime
    done_at: datetime | None
    outcome: RequestOutcome | None = Field(description="null while it waits for the leader")
    reason: str | None = Field(description="why it was not carried out")
    run: int | None = Field(description="`seq` of the run that it led to")


class Problem(BaseModel):
    detail: str


UNAVAILABLE: dict[int | str, dict[str, Any]] = {503: {"model": Problem, "description": "The ledger cannot be used now"}}
MISSING: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such row, or pruned"}}
REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "The admin token is missing or wrong, or the application refuses"},
    403: {
        "model": Problem,
        "description": "The request comes from another site, lacks the header for changes, or the application refuses",
    },
    404: {"model": Problem, "description": "No such job"},
    429: {"model": Problem, "description": "Too many requests; Retry-After says how long to wait"},
}
