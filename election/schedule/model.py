"""Values of a ledger, and its state for a leader. All times are UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


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
    COPIED = "copied"  # owed by the original of a ledger that was copied or restored; see ``Copied``
    CLOCK = "clock"  # the wall clock was ahead, and is accepted as it is now; see ``Ledger.accept_time``
    LOST = "lost"  # it fell due after the last term of a ledger that was lost
    DOWN = "down"  # it fell due without a leader, too long ago to be caught up with


@dataclass(frozen=True, slots=True)
class Tick:
    """A planned fire of a job. ``request``: 0 for a tick of the schedule, else the request to run the job now."""

    job_id: str
    due: datetime
    request: int = 0


# Commands of a term; ``Ledger.record`` takes a list of them.


@dataclass(frozen=True, slots=True)
class Span:
    """Start and end of an attempt's code, in microseconds of the leader's monotonic clock."""

    began_us: int
    ended_us: int


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a job logged. level: name of the level. text: the message, and the traceback if there is one."""

    at: datetime
    level: str
    logger: str
    text: str


@dataclass(frozen=True, slots=True)
class RunLog:
    """Log of one attempt, bounded.

    attempt: number of the attempt. traceback: of the exception that ended it; None if there was none.
    lines: the latest lines that its code logged. dropped: earlier lines that were too many.
    """

    attempt: int
    traceback: str | None = None
    lines: tuple[LogLine, ...] = ()
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class JobInfo:
    """Name, description and tags of a job. tags: single words, to find jobs by."""

    name: str
    description: str | None = None
    tags: tuple[str, ...] = ()


class RequestOutcome(StrEnum):
    """End of a request."""

    RAN = "ran"  # its run was claimed; how that ended is the run's outcome
    SKIPPED = "skipped"
    CANCELLED = "cancelled"  # the run was requested to end; its own row has the outcome
    RESIGNED = "resigned"
    REFUSED = "refused"
    EXPIRED = "expired"  # it waited too long for a leader


# State of a ledger.


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job that was added at run time: a reference to its function, and JSON.

    info: for a job that is being added; in the ledger it stands beside, see ``JobState``.
    """

    func: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    info: JobInfo | None = field(default=None, compare=False)


TICK_RULE = 1
"""Version of the rule by which ticks are counted, kept with each schedule.

``verify`` skips schedules of another version: a later rule does not define the ticks that an earlier leader owed.
"""

UNREADABLE: Mapping[str, Any] = {"type": "other", "text": "unreadable"}
"""Trigger of a job whose row cannot be read."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be added at run time. trigger: as ``triggers.describe`` gives it."""

    id: str
    trigger: Mapping[str, Any]
    stored: StoredJob


@dataclass(frozen=True, slots=True)
class JobState:
    """State of a job in the ledger.

    trigger: as ``triggers.describe`` gives it.
    scheduled_since: when the present schedule of the job began; a trigger without a start date is anchored to it.
    settled_until: no tick up to here is owed any more.
    resume_at: requested end of a pause; the leader settles the ticks of the pause and clears both fields.
    removed: whether it was added at run time, and has been removed or has finished.
    info: None before a leader has written it.
    next_due: recorded next due time of a job that was added at run time; None if there is none.
    new_trigger: trigger of a job of the code that replaces ``code_trigger`` at run time; None if there is none.
    row_text: its row as ``find_jobs`` has read it, in a store that compares rows by their text; None in others.
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
    next_due: datetime | None = None
    new_trigger: Mapping[str, Any] | None = None
    code_trigger: Mapping[str, Any] | None = None
    row_text: str | None = field(default=None, compare=False, repr=False)

    @property
    def paused(self) -> bool:
        """Whether a pause lasts: its end has not been requested yet."""
        return self.paused_at is not None and self.resume_at is None

    @property
    def fingerprint(self) -> tuple[Any, ...]:
        """Values that change whenever another process stores, modifies, removes, pauses or settles the job."""
        times = self.settled_until, self.scheduled_since, self.retired_at, self.removed, self.paused_at
        return *times, self.stored, self.new_trigger


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that was claimed and not settled. interruptions: attempts that were cut short. kwargs: of a ``Request``."""

    tick: Tick
    term: int
    attempt: int
    interruptions: int = 0
    kwargs: Mapping[str, Any] | None = None


class Action(StrEnum):
    RUN = "run"
    CANCEL = "cancel"
    RESIGN = "resign"


class AuditAction(StrEnum):
    """Kinds of changes that the audit trail records."""

    PAUSE = "pause"
    RESUME = "resume"
    RUN = "run"
    CANCEL = "cancel"
    ADD = "add"
    MODIFY = "modify"
    RESCHEDULE = "reschedule"
    REMOVE = "remove"
    RESIGN = "resign"
    ACCEPT_TIME = "accept-time"
    ADOPT = "adopt"


@dataclass(frozen=True, slots=True)
class Request:
    """Request of a worker to the leader.

    term: for a resignation, the term whose leader is to resign.
    kwargs: arguments of the run, in place of the job's own; to cancel a run its tick, as ``name_tick`` returns it.
    """

    id: int
    action: Action
    job_id: str | None
    term: int | None
    at: datetime
    kwargs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Copied:
    """A ledger that was copied or restored, and led at its new place since.

    Ticks that the original owed before are not run here: its leader may run them, too.

    Attributes:
        at: When the first term at the new place began.
        term: Number of that term.
    """

    at: datetime
    term: int


@dataclass(frozen=True, slots=True)
class State:
    """Full state for the start of a term, or the part of it that has changed since.

    Attributes:
        jobs: Jobs that were not removed, except ``rest``; in a change those that were stored, registered, paused,
            resumed or removed since, and those with an open request.
        requests: All open requests.
        open_runs: Runs that are not settled; empty in a change.
        copied: None unless the ledger is a copy that was not adopted.
        about: Ids of the jobs that this state covers; None if it is the whole state.
        rest: Ids of jobs that were added at run time and are not among ``jobs``, due soonest first. Of many such jobs,
            only the first, and those with an open request or run, are among ``jobs``.
    """

    jobs: Sequence[JobState]
    requests: Sequence[Request]
    open_runs: Sequence[OpenRun]
    copied: Copied | None = None
    about: frozenset[str] | None = None
    rest: Sequence[str] = ()
