"""Commands of a ledger: first those of a term, then those of any worker, and conditions. All times are UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from election.core.process import ProcessIdentity
from election.core.term import Standing, Term

from .model import (
    Action,
    AuditAction,
    JobInfo,
    JobState,
    Outcome,
    RequestOutcome,
    RunLog,
    SkipReason,
    Span,
    StoredJob,
    Tick,
)


@dataclass(frozen=True, slots=True)
class Claim:
    """Permission to run a tick, given once.

    scheduled_since: of the schedule by which the tick fell due; under no other schedule is the claim granted.
    max_instances: runs of the job that may be under way at once; None if unknown.
    """

    tick: Tick
    at: datetime
    scheduled_since: datetime | None = None
    max_instances: int | None = None


@dataclass(frozen=True, slots=True)
class FinishRun:
    """The end of a run, after its last attempt.

    error: the exception of a failed run, as text. started_at: when the code of this attempt began; None if it did not.
    span: the same beginning and the end, on a monotonic clock.
    """

    tick: Tick
    outcome: Outcome
    at: datetime
    error: str | None = None
    started_at: datetime | None = None
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Another attempt of a claimed tick, after the last one ended with ``outcome``. started_at: as in ``FinishRun``."""

    tick: Tick
    outcome: Outcome
    at: datetime
    error: str | None = None
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RecordLog:
    """Keep the log of an attempt of a claimed tick; a ledger keeps the latest ones of each job."""

    tick: Tick
    log: RunLog


@dataclass(frozen=True, slots=True)
class KeepResult:
    """Keep the result of a requested run. value: JSON text."""

    request: int
    value: str


@dataclass(frozen=True, slots=True)
class Skip:
    """Ticks of a job that will have no run; ``count`` is None where counting them would take too long."""

    job_id: str
    first_due: datetime
    last_due: datetime
    count: int | None
    reason: SkipReason
    at: datetime
    request: int = 0
    claimed: bool = False
    """Whether the tick had been claimed, but came too late to be run: the claim becomes this skip."""
    scheduled_since: datetime | None = None
    """Of the schedule by which the ticks fell due, as in ``Claim``."""


@dataclass(frozen=True, slots=True)
class RegisterJob:
    """A job is seen for the first time, again after an absence, or with a changed trigger.

    at: the moment, to which a trigger without a start is anchored. since: the job owes the ticks later than this.
    """

    job_id: str
    trigger: Mapping[str, Any]
    at: datetime
    since: datetime


@dataclass(frozen=True, slots=True)
class SetNextDue:
    """Next due time of a job that was added at run time: a hint, by which a new leader plans the soonest first."""

    job_id: str
    due: datetime


@dataclass(frozen=True, slots=True)
class RetireJob:
    """A job is no longer in the code: it owes no ticks after ``at``, and keeps its history."""

    job_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class FinishJob:
    """A job that was added at run time has no further ticks: it leaves the pool, and its history stays.

    It takes no effect if the schedule has changed meanwhile, if a tick up to ``settled_until`` is not settled, or if a
    run or a request of the job is open.
    """

    job_id: str
    scheduled_since: datetime
    settled_until: datetime
    at: datetime


@dataclass(frozen=True, slots=True)
class EndPause:
    """A pause is over, and its ticks are settled until ``until``."""

    job_id: str
    until: datetime


@dataclass(frozen=True, slots=True)
class MarkBroken:
    """A stored job cannot be run. error: why, in words; None when it can be run again."""

    job_id: str
    error: str | None


@dataclass(frozen=True, slots=True)
class DescribeJob:
    """The name, description or tags of a job have changed, or are not in the ledger yet."""

    job_id: str
    info: JobInfo


@dataclass(frozen=True, slots=True)
class CompleteRequest:
    """End of a request without a run. reason: why, in words; None for one that was carried out."""

    request: int
    at: datetime
    outcome: RequestOutcome
    reason: str | None = None


Entry = (
    Claim
    | FinishRun
    | Retry
    | RecordLog
    | KeepResult
    | Skip
    | RegisterJob
    | RetireJob
    | FinishJob
    | EndPause
    | MarkBroken
    | DescribeJob
    | SetNextDue
    | CompleteRequest
)
"""Commands of a term, which ``Ledger.record`` takes."""


@dataclass(frozen=True, slots=True)
class BeginTerm:
    """Begin a term; the same process may repeat this. began_ns: nanoseconds since boot; they order terms.

    A ledger that lies at another place than at the term before is recorded as a copy; see ``Copied``.
    """

    term: Term
    holder: ProcessIdentity
    began_ns: int


@dataclass(frozen=True, slots=True)
class SettleFormerTerm:
    """Write how the term before ``term`` ended, if its holder was ``pid`` and has not written that itself."""

    term: int
    pid: int | None
    standing: Standing
    at: datetime


@dataclass(frozen=True, slots=True)
class ConfirmTerm:
    """Write how long the takeover took, in milliseconds."""

    term: int
    takeover_ms: float


@dataclass(frozen=True, slots=True)
class EndTerm:
    """Write how a term ended. at_ns: nanoseconds since boot."""

    term: int
    at: datetime
    at_ns: int
    standing: Standing


@dataclass(frozen=True, slots=True)
class Fence:
    """Write the intent to fence a term's leader, unless there is one between ``not_since`` and ``not_after``.

    An intent of the future, as of a clock that was ahead, does not count. silent_s: seconds without a heartbeat.
    """

    term: int
    pid: int
    by_pid: int
    silent_s: float
    at: datetime
    not_since: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class AddRequest:
    """Request an action of the leader. The fields are those of ``Request``."""

    action: Action
    job_id: str | None
    term: int | None
    at: datetime
    kwargs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class PauseJob:
    """Pause a job from ``at`` on, unless it is paused."""

    job_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ResumeJob:
    """Request that a job's pause end at ``at``; see ``EndPause``."""

    job_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class StoreJob:
    """Make a registered job one that was added at run time. keep_pause: whether a pause of the job goes on."""

    job_id: str
    stored: StoredJob
    keep_pause: bool


@dataclass(frozen=True, slots=True)
class RescheduleJob:
    """Give a job of the code another trigger at run time; None restores the trigger of the code.

    The leader registers it, and it holds until the trigger in the code changes.
    """

    job_id: str
    trigger: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class RemoveJob:
    """Remove a job that was added at run time: it owes no ticks after ``at``, and keeps its history."""

    job_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class AcceptTime:
    """Set a job's ``settled_until`` back to ``at``, and write a skip that records this."""

    job_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Adopt:
    """Accept a copied or restored ledger as the original. It takes effect if the ledger was such a copy."""


@dataclass(frozen=True, slots=True)
class AddAuditEntry:
    """Record who has made a change, in the transaction of that change.

    job_id: None for a change of the pool. before, after: the difference in short. of_request: whether the change is the
    ``AddRequest`` before it in the same write, whose number is recorded then.
    """

    action: AuditAction
    job_id: str | None
    by: str
    at: datetime
    before: str | None = None
    after: str | None = None
    of_request: bool = False


@dataclass(frozen=True, slots=True)
class RequireJob:
    """Condition: the pool has the job."""

    job_id: str


@dataclass(frozen=True, slots=True)
class ExpectJob:
    """Condition: the job is as ``find_jobs`` has read it, by its ``fingerprint``; None: it was never seen."""

    job_id: str
    found: JobState | None


Command = (
    Entry
    | BeginTerm
    | SettleFormerTerm
    | ConfirmTerm
    | EndTerm
    | Fence
    | AddRequest
    | PauseJob
    | ResumeJob
    | StoreJob
    | RescheduleJob
    | RemoveJob
    | AcceptTime
    | Adopt
    | AddAuditEntry
    | RequireJob
    | ExpectJob
)
"""Everything that changes a ledger, and the conditions of a change."""
