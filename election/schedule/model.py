"""The values of a ledger: what a term writes, and what a leader needs to know. All times are UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from election.core.process import ProcessIdentity
from election.core.term import Standing, Term


class Outcome(StrEnum):
    """How a run ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # its leader died, or the drain limit passed


class SkipReason(StrEnum):
    """Why a tick has no run."""

    COALESCED = "coalesced"  # a later tick of the same job ran for it
    MISFIRED = "misfired"  # it was later than the job's misfire_grace_time
    OVERLAP = "overlap"  # max_instances of the job were running
    PAUSED = "paused"
    DOWN = "down"  # nobody led, and it was too long ago to be caught up with


@dataclass(frozen=True, slots=True)
class Tick:
    """A planned fire of a job. ``request``: 0 for the schedule's own, else the request to run the job now."""

    job_id: str
    due: datetime
    request: int = 0


# Commands of a term; ``Ledger.record`` takes a list of them.


@dataclass(frozen=True, slots=True)
class Claim:
    """Permission to run a tick, given once.

    scheduled_since: of the schedule by which it fell due; no other one grants it.
    """

    tick: Tick
    at: datetime
    scheduled_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class FinishRun:
    """The end of a run, after its last attempt. error: the exception of a failed run, as text."""

    tick: Tick
    outcome: Outcome
    at: datetime
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Another attempt of a claimed tick, after the last one ended with ``outcome``."""

    tick: Tick
    outcome: Outcome
    at: datetime
    error: str | None = None


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

    at: the moment, to which what has no start of its own is anchored. since: it owes the ticks later than this.
    """

    job_id: str
    trigger: Mapping[str, Any]
    at: datetime
    since: datetime


@dataclass(frozen=True, slots=True)
class RetireJob:
    """A job is no longer in the code: it owes no ticks after ``at``, and keeps its history."""

    job_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class EndPause:
    """A pause is over, and its ticks are settled until ``until``."""

    job_id: str
    until: datetime


@dataclass(frozen=True, slots=True)
class MarkBroken:
    """A stored job cannot be run, and why; None when it can again."""

    job_id: str
    error: str | None


@dataclass(frozen=True, slots=True)
class JobInfo:
    """Name, description and tags of a job. tags: single words, to find jobs by."""

    name: str
    description: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DescribeJob:
    """The name, description or tags of a job have changed, or are not in the ledger yet."""

    job_id: str
    info: JobInfo


@dataclass(frozen=True, slots=True)
class CompleteRequest:
    """A request was carried out, or came to nothing."""

    request: int
    at: datetime


Entry = (
    Claim | FinishRun | Retry | Skip | RegisterJob | RetireJob | EndPause | MarkBroken | DescribeJob | CompleteRequest
)
"""Commands of a term, which ``Ledger.record`` takes."""


# State of a ledger.


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job that was added at run time: a reference to its function, and JSON."""

    func: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobState:
    """State of a job in the ledger.

    trigger: as ``triggers.describe`` gives it.
    scheduled_since: when the present schedule of the job began; what has no start date of its own is anchored to it.
    settled_until: no tick up to here is owed any more.
    resume_at: when somebody asked that a pause end; the leader accounts for its ticks and clears both.
    info: None before a leader has written it.
    """

    id: str
    trigger: Mapping[str, Any]
    scheduled_since: datetime
    settled_until: datetime
    paused_at: datetime | None = None
    resume_at: datetime | None = None
    retired_at: datetime | None = None
    stored: StoredJob | None = None
    removed: bool = False
    broken: str | None = None
    info: JobInfo | None = None

    @property
    def paused(self) -> bool:
        """Whether a pause lasts: nobody has asked yet that it end."""
        return self.paused_at is not None and self.resume_at is None

    @property
    def fingerprint(self) -> tuple[Any, ...]:
        """Values that change whenever another process stores, removes, pauses, registers or settles the job."""
        return self.settled_until, self.scheduled_since, self.retired_at, self.removed, self.paused_at


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that was claimed and not settled. ``interruptions``: earlier attempts that were cut short."""

    tick: Tick
    term: int
    attempt: int
    interruptions: int = 0


class Action(StrEnum):
    RUN = "run"
    RESIGN = "resign"


@dataclass(frozen=True, slots=True)
class Request:
    """Something that a worker asked the leader for. ``term``: whose leader, for a resignation."""

    id: int
    action: Action
    job_id: str | None
    term: int | None
    at: datetime


@dataclass(frozen=True, slots=True)
class State:
    """All that a leader needs at the start of its term, and whenever somebody else has written."""

    jobs: Sequence[JobState]
    requests: Sequence[Request]
    open_runs: Sequence[OpenRun]


# Commands of the ledger itself, see ``ledger.py``.


@dataclass(frozen=True, slots=True)
class BeginTerm:
    """Begin a term, or repeat that by the same process. began_ns: nanoseconds since boot; they order terms."""

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
    """Write the intent to fence a term's leader, unless there is one later than ``not_since``.

    silent_s: seconds without a heartbeat.
    """

    term: int
    pid: int
    by_pid: int
    silent_s: float
    at: datetime
    not_since: datetime


@dataclass(frozen=True, slots=True)
class AddRequest:
    """Ask the leader for an action. term: number of the leader's term, for a resignation."""

    action: Action
    job_id: str | None
    term: int | None
    at: datetime


@dataclass(frozen=True, slots=True)
class PauseJob:
    """Pause a job from ``at`` on, unless it is paused."""

    job_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ResumeJob:
    """Ask that a job's pause end at ``at``; see ``EndPause``."""

    job_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class StoreJob:
    """Make a registered job one that was added at run time. keep_pause: whether a pause of the job goes on."""

    job_id: str
    stored: StoredJob
    keep_pause: bool


@dataclass(frozen=True, slots=True)
class RemoveJob:
    """Remove a job that was added at run time: it owes no ticks after ``at``, and keeps its history."""

    job_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RequireJob:
    """Condition: the pool has the job."""

    job_id: str


@dataclass(frozen=True, slots=True)
class ExpectJob:
    """Condition: the job is as ``found`` in what ``fingerprint`` compares; None: it was never seen."""

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
    | RemoveJob
    | RequireJob
    | ExpectJob
)
"""Everything that changes a ledger, and the conditions of a change."""
