"""The values of a ledger's history, as anybody may read it. All times are UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from election.core.term import Reason, Standing

from .facts import Outcome, SkipReason, Tick


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in the history. ``attempts``: the earlier ones, as ``{attempt, term, ended_at, outcome, error}``."""

    seq: int
    job_id: str
    due: datetime
    request: int
    term: int
    attempt: int
    claimed_at: datetime
    ended_at: datetime | None
    outcome: Outcome | None
    error: str | None
    attempts: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class SkipRow:
    """Skipped ticks in the history."""

    seq: int
    job_id: str
    first_due: datetime
    last_due: datetime
    count: int | None
    reason: SkipReason
    term: int
    at: datetime


@dataclass(frozen=True, slots=True)
class TermRow:
    """A term in the history. ``…_ns``: nanoseconds since boot, for what the wall clock cannot order."""

    term: int
    pid: int
    host: str
    boot_id: str
    began_at: datetime
    began_ns: int
    reason: Reason
    from_pid: int | None
    takeover_ms: float | None
    ended_at: datetime | None
    ended_ns: int | None
    standing: Standing | None


@dataclass(frozen=True, slots=True)
class Epoch:
    """What a job owed from when to when: the ticks of ``trigger`` later than ``since`` up to ``until`` (None: now)."""

    job_id: str
    since: datetime
    until: datetime | None
    anchor: datetime
    trigger: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Accounts:
    """What became of the ticks of one job within a stretch of time."""

    runs: Sequence[datetime]
    skips: Sequence[tuple[datetime, datetime]]


@dataclass(frozen=True, slots=True)
class OddClaim:
    """A claim that should not be: given twice, given to a term after a later one had claimed, or to no term at all.

    times: 0 if the term never began, 1 if it was over, else how often the tick was claimed.
    """

    tick: Tick
    term: int
    times: int
