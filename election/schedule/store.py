"""Port of the ledger: the methods that a database has to offer. The rules are above it, in ``ledger.py``.

A store keeps two rules, each within the transaction of ``write``, on which the promises P3 and P4 rest:

- a tick of the schedule is claimed or skipped only if it falls due after the job's ``settled_until``, and becomes it;
- a term that is not the latest writes nothing (``StaleTermError``).

Solid Queue's ``recurring_execution.rb`` is the source of the idea that a constraint enforces the first rule.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from election.core.backend import LatestTerms
from election.core.errors import ElectionError, LedgerVersionError, StaleTermError

from .commands import Command
from .history import Epoch, JobOverview, RunRow, Totals, Window
from .model import JobState, State

FIRST_JOBS = 100
"""Jobs that were added at run time, due soonest, that the state contains; of any others it contains the ids."""


class Kind(StrEnum):
    """Kinds of rows in the history."""

    RUN = "run"
    CLAIM = "claim"
    SKIP = "skip"
    TERM = "term"
    REQUEST = "request"
    LOG = "log"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions on rows of the history; None is no condition. Logs have only ``run``, audit rows
    only ``job_id``, terms, requests and claims none.

    Attributes:
        job_id: Id of the job.
        tag: A tag that the job has now.
        outcome: Outcome of a run, or ``running``.
        run: Number of the run whose logs are read.
    """

    job_id: str | None = None
    tag: str | None = None
    outcome: str | None = None
    run: int = 0


class UnmetConditionError(ElectionError):
    """A ``RequireJob`` or ``ExpectJob`` of a write did not hold, and nothing was written."""


def term_over(term: int, latest: int) -> StaleTermError:
    """Error of a write by a term that is not the latest."""
    return StaleTermError(f"term {term} is over: term {latest} has begun")


def term_taken(term: int, pid: int) -> StaleTermError:
    """Error of a term that another process has begun under the same number."""
    return StaleTermError(f"term {term} was begun by pid {pid} already")


def check_schema_version(where: str, version: int, *, first: int, latest: int, way_out: str) -> None:
    """Check that this code can read a ledger.

    Args:
        where: Path or pool of the ledger.
        version: Version of its schema; 0 if it has none yet.
        first: First version that this code reads.
        latest: Version that this code writes.
        way_out: What to do about a ledger from before ``first``.

    Raises:
        LedgerVersionError: The schema is older or newer than that.
    """
    if version > latest:
        raise LedgerVersionError(
            f"{where} has schema {version}, and this version of election supports {latest} at most:"
            " upgrade election in every worker of the pool"
        )
    if 0 < version < first:
        raise LedgerVersionError(
            f"{where} has schema {version}, from before the first release, which this version of election cannot read:"
            f" {way_out}"
        )


class LedgerStore(Protocol):
    """Storage of a ledger. Every method raises ``LedgerError`` if the storage cannot be used at the moment."""

    def check(self) -> None:
        """Raise ``LedgerVersionError`` if this code cannot read the storage. Opens nothing that stays open."""

    def write(self, commands: Sequence[Command], *, term: int | None) -> Awaitable[list[int]]:
        """Write all commands in one transaction, in order.

        Args:
            commands: Changes and conditions.
            term: Number of the term that writes; None for changes that any worker may make.

        Returns:
            For each command whether it took effect (a claim: was granted); for ``AddRequest`` the request's number. It
            may be a future that is done already: a store in a local file is faster that way.

        Raises:
            StaleTermError: A later term than ``term`` has begun; nothing was written.
            UnmetConditionError: A condition among the commands does not hold; nothing was written.
        """

    async def begin(self, commands: Sequence[Command], *, term: int) -> State:
        """Write the commands that begin a term, and read the state in the same round trip. Raises as ``write``."""

    async def changes(self) -> State | None:
        """Read what has changed if another process has written since the last call or ``begin``; otherwise None.

        The whole state the first time, without a ``begin``.
        """

    async def is_moved(self) -> bool:
        """Read whether the ledger lies at another place than when it was last led, or is a copy not adopted since."""

    async def find_jobs(self, job_ids: Sequence[str]) -> list[JobState]:
        """Read the jobs with these ids, in any order; one that was never seen is left out."""

    async def jobs(self, *, removed: bool = False) -> list[JobState]:
        """Read all jobs, by id; those that were removed or have finished only with ``removed``."""

    async def overview(self, limit: int) -> JobOverview:
        """Read up to ``limit`` jobs of the code, and as many that were added at run time."""

    async def jobs_after(self, job_id: str, limit: int) -> list[JobState]:
        """Read up to ``limit`` jobs with larger ids, by id; none that was removed or has finished."""

    async def page(self, kind: Kind, where: Filter, before: int | None, limit: int) -> list[Any]:
        """Read up to ``limit`` rows with smaller numbers than ``before``, latest first.

        Returns:
            ``RunRow``, ``ClaimRow``, ``SkipRow``, ``TermRow``, ``RequestRow``, ``RunLog`` or ``AuditRow``, selected by
            ``kind``. Runs and claims are the same rows; the number of a log is that of its attempt.
        """

    async def latest_runs(self, job_ids: Sequence[str]) -> dict[str, RunRow]:
        """Read the latest run of each of these jobs, by job id; a job without a run is left out."""

    async def window(self, since: datetime, until: datetime, limit: int) -> Window:
        """Read a bounded sample of a time range; see ``LedgerReader.window``."""

    async def epochs(self) -> list[Epoch]:
        """Read the schedules of all jobs, oldest first."""

    async def latest_terms(self) -> LatestTerms:
        """Read the largest numbers of a term that was begun, and of one with an intent to fence its leader."""

    async def totals(self) -> Totals:
        """Read the counters; takes no longer when there is more history."""

    async def pruned_until(self) -> datetime:
        """Read the time up to which history may have been removed."""

    async def prune(self, before: datetime, at_most: int) -> int:
        """Remove up to ``at_most`` rows of each kind older than ``before``; returns how many were removed."""

    async def integrity(self) -> list[str]:
        """Check the storage; returns descriptions of damage."""

    async def close(self) -> None:
        """Close the storage; using it again opens it again."""
