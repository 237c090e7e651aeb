"""Commands of a ledger beside those of a term: beginning and ending terms, requests, stored jobs, conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from election.core.process import ProcessIdentity
from election.core.term import Standing, Term

from .model import Action, Entry, JobState, StoredJob


@dataclass(frozen=True, slots=True)
class BeginTerm:
    """Begin a term, or repeat that by the same process. began_ns: nanoseconds since boot; they order terms.

    A ledger that lies at another place than at the term before is noted as a copy; see ``Copied``.
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
    """Ask the leader for an action. The fields are those of ``Request``."""

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
class AcceptTime:
    """Take a job's ``settled_until`` back to ``at``, and write a skip that says so."""

    job_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take a ledger that was copied or restored for the original. It has an effect if it was one."""


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
    | AcceptTime
    | Adopt
    | RequireJob
    | ExpectJob
)
"""Everything that changes a ledger, and the conditions of a change."""
