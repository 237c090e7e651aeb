"""Values of a ledger's history, for any reader. All times are UTC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from election.core.term import Reason, Standing

from .model import TICK_RULE, Action, AuditAction, JobState, Outcome, RequestOutcome, SkipReason, Span

MAX_LOGS_PER_JOB = 100
"""Logs of attempts that are kept for each job: so many of those that have a traceback, and of those that have none."""

MAX_LOGS = 10_000
"""Logs of attempts that are kept in all."""

MAX_SHOWN = 100
"""Jobs of the code, and jobs that were added at run time, in a view that does not grow with the pool."""

MAX_RUNNING = 1000
"""Open runs that are read to show how many of each job run now."""


def count_interruptions(attempts: Iterable[Mapping[str, Any]]) -> int:
    """Number of attempts of a run that were cut short."""
    return sum(each["outcome"] == Outcome.INTERRUPTED for each in attempts)


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in the history.

    ``attempts``: the earlier ones, as ``{attempt, term, ended_at, outcome, error}``. ``started_at``: when the code of
    the first attempt began; None during that attempt, and for a run whose leader died.
    """

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
    started_at: datetime | None = None

    @property
    def interruptions(self) -> int:
        """Earlier attempts that were cut short."""
        return count_interruptions(self.attempts)


@dataclass(frozen=True, slots=True)
class JobOverview:
    """A pool's jobs in a view that does not grow with their number.

    Attributes:
        code: Jobs of the code by id, those that have left it last; a bounded number.
        stored: Jobs that were added at run time, due soonest first; a bounded number.
        code_ids: All jobs in the code now, and why each cannot be run, or None.
        total: Number of the jobs in the code now, and of those that were added at run time.
    """

    code: Sequence[JobState]
    stored: Sequence[JobState]
    code_ids: Mapping[str, str | None]
    total: int

    @property
    def jobs(self) -> list[JobState]:
        """Jobs of the code, then jobs that were added at run time."""
        return [*self.code, *self.stored]


def by_job(runs: Iterable[RunRow]) -> dict[str, list[RunRow]]:
    """The runs of each job, by its id."""
    found: dict[str, list[RunRow]] = {}
    for run in runs:
        found.setdefault(run.job_id, []).append(run)
    return found


class ClaimRow(NamedTuple):
    """Claim of a run in the history, and when its code ran, for ``verify``: a tuple, since ``verify`` reads millions.

    first_term: term that was given the claim. term: term of the last attempt. max_instances: runs of the job that were
    allowed at once; None if unknown. span: of the last attempt; None if it has not ended or is unknown.
    """

    seq: int
    job_id: str
    due: datetime
    request: int
    first_term: int
    term: int
    max_instances: int | None
    span: Span | None


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
    request: int = 0


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A request and its outcome.

    term: whose leader is to resign. outcome: None while the request waits. reason: why it was not carried out, in
    words. run: ``seq`` of the resulting run. result: that of the run, as JSON text; None if it is not kept.
    """

    id: int
    action: Action
    job_id: str | None
    term: int | None
    at: datetime
    done_at: datetime | None
    outcome: RequestOutcome | None
    reason: str | None
    run: int | None
    result: str | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Change of a job or of the pool, and who made it.

    by: identity of the person or process. job_id: None for a change of the pool. before, after: the difference in
    short; None where there is nothing to say. request: number of the request, if the change is one.
    """

    seq: int
    at: datetime
    by: str
    action: AuditAction
    job_id: str | None
    before: str | None
    after: str | None
    request: int | None


@dataclass(frozen=True, slots=True)
class TermRow:
    """A term in the history. ``…_ns``: nanoseconds since boot, because the wall clock gives no reliable order."""

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
class Window:
    """History of a time range, latest first, thinned where it is too much for a picture.

    runs_every, skips_every: one in so many is included, and also the latest runs that did not succeed.
    counts: how many runs there are in all by outcome, ``running`` included, and ticks that were ``skipped``; None if
        they are too many to be counted in time for a picture.
    begins: when the history begins; None if there is none.
    """

    terms: Sequence[TermRow]
    runs: Sequence[RunRow]
    skips: Sequence[SkipRow]
    runs_every: int
    skips_every: int
    counts: Mapping[str, int] | None
    begins: datetime | None


@dataclass(frozen=True, slots=True)
class Epoch:
    """Schedule of a job in a time range: the ticks of ``trigger`` later than ``since`` up to ``until`` (None: now).

    rule: version of the rule by which they were counted.
    """

    job_id: str
    since: datetime
    until: datetime | None
    anchor: datetime
    trigger: Mapping[str, Any]
    rule: int = TICK_RULE


MAX_COUNTED = 20_000
"""Rows of a time range that are counted one by one: a count may not take longer because there is more history."""

BOUNDS = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 3600.0)
"""The upper bounds, in seconds, of a ``Histogram``'s buckets but the last. Ledgers count by these bounds as they write,
so that a change of one needs a migration."""


MAX_SKIPPED = 10**12
"""Ticks that a row of skips can stand for; a larger number is none that a worker has written."""

UNCOUNTED_SKIP = 100
"""Ticks that are counted for a skip whose range was too long to be counted."""


def added_label(func: str) -> str:
    """Label that counts the runs of the jobs that were added at run time with this function."""
    return f"added:{func}"


@dataclass(frozen=True, slots=True)
class Histogram:
    """Distribution of durations.

    counts: by bucket, not cumulated, one more than ``BOUNDS``. total_s: sum of all durations in seconds.
    """

    counts: Sequence[int]
    total_s: float


@dataclass(frozen=True, slots=True)
class Totals:
    """Counters since the ledger was begun, pruned history included: none ever decreases.

    Jobs of the code are counted by their id, and left out once they and their history are gone. Those that were added
    at run time are counted together under the label of their function (``added_label``): their ids have no bound.

    jobs: the ids of those in the code now. runs: settled ones, by job and outcome. skips: ticks, by job id and
    reason; a range that was too long to be counted counts as 100. lateness: from due to the start of the code, or to
    the claim where that is not known, of the schedule's ticks, by job id. durations: from claimed to ended, with all
    attempts, of the runs that ended by themselves, by job id. terms: how they began. takeover: from detecting the
    vacancy to the running scheduler. vacant_s: seconds from the end of a term, or its last heartbeat, to the next
    election, by how that term began. settled_until: latest time up to which the ticks of a job are settled; None
    without jobs. last_success: end of the latest run that succeeded, by job id.
    """

    jobs: Sequence[str]
    runs: Mapping[tuple[str, Outcome], int]
    skips: Mapping[tuple[str, SkipReason], int]
    lateness: Mapping[str, Histogram]
    durations: Mapping[str, Histogram]
    terms: Mapping[Reason, int]
    takeover: Histogram
    vacant_s: Mapping[Reason, float]
    last_success: Mapping[str, datetime]
    settled_until: datetime | None = None
