"""What a ledger must offer: it remembers which ticks are accounted for, so that none is lost or run twice.

Promises P3 and P4 rest on two rules, which every implementation keeps in one transaction each:

- a scheduled tick can be claimed or skipped only if it falls due after the job's last accounted tick, and becomes it;
- a term that is not the latest writes nothing (``StaleTermError``).

Times are UTC. Solid Queue's ``recurring_execution.rb`` is where the thought comes from to let a constraint do the work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from election.core.process import ProcessIdentity
from election.core.term import Standing, Term

from .history import Accounts, Epoch, OddClaim, RunRow, SkipRow, TermRow, Totals, Window
from .model import Action, Entry, JobState, OpenRun, State, StoredJob

LARGEST = 2**63 - 1
"""The largest number that a ledger can be asked for."""


class LedgerReader(Protocol):
    """What any worker, and the command line, may ask of a ledger."""

    async def jobs(self) -> list[JobState]:
        """Every job that was ever seen, by id."""

    async def last_outcomes(self) -> dict[str, RunRow]:
        """The latest run of each job, by job id."""

    async def runs(
        self,
        *,
        job_id: str | None = None,
        tag: str | None = None,
        outcome: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[RunRow]:
        """Runs, latest first. tag: only those of jobs that have it now. outcome: ``running`` is one, too.

        before: only those with a smaller ``seq``.
        """

    async def skips(
        self, *, job_id: str | None = None, tag: str | None = None, before: int | None = None, limit: int = 100
    ) -> list[SkipRow]:
        """Skips, latest first; filtered as runs are."""

    async def terms(self, *, before: int | None = None, limit: int = 100) -> list[TermRow]:
        """Terms, latest first. ``before``: only those with a smaller number."""

    async def window(self, since: datetime, until: datetime, limit: int) -> Window:
        """What happened from ``since`` to ``until``, in about ``limit`` runs and as many skips and terms at most.

        Runs that were claimed or that ended then, and all that run now. For pictures: where the wall clock was set
        back, some may be left out.
        """

    async def epochs(self) -> list[Epoch]:
        """Which schedule each job had, from when to when; oldest first."""

    async def accounts(self, job_id: str, first: datetime, last: datetime) -> Accounts:
        """What became of the job's ticks that fell due from ``first`` to ``last``."""

    async def odd_claims(self) -> list[OddClaim]:
        """Every claim that should not have been given."""

    async def open_runs(self) -> list[OpenRun]:
        """Runs that are claimed and not settled."""

    async def totals(self) -> Totals:
        """What happened since the ledger was begun, counted; takes no longer when there is more history."""

    async def pruned_until(self) -> datetime:
        """History up to here may have been removed."""

    async def integrity(self) -> list[str]:
        """What is wrong with the ledger's own storage, in words; empty if nothing is."""

    async def close(self) -> None:
        """Let go of the ledger; using it again opens it again."""


class Ledger(LedgerReader, Protocol):
    """The memory of a pool. Every method raises ``LedgerError`` when it cannot do its work at the moment."""

    def check(self) -> None:
        """Raises ``LedgerVersionError`` if the ledger is newer than this code. Opens nothing that stays open."""

    async def last_term(self) -> int:
        """The largest number of a term that was begun; 0 if none."""

    async def was_fenced(self, term: int) -> bool:
        """Whether somebody set out to fence the leader of that term."""

    async def fence(self, term: int, *, pid: int, by_pid: int, silent: float, every: float) -> bool:
        """Note the intent to fence a term's leader, before it is done.

        silent: seconds without a heartbeat. every: seconds in which there is one intent at most; returns whether this
        is the one.
        """

    async def begin_term(self, term: Term, holder: ProcessIdentity, *, began_ns: int | None = None) -> State:
        """Open the term and say how things stand. Repeating it for the same term is allowed (a ledger that was lost).

        The takeover tells how the term before ended, in case its own leader could not write that down. began_ns: when
        it began, in nanoseconds since boot, by which terms are ordered; now, unless the ledger was out of reach then.
        Raises ``StaleTermError`` if a later term has begun.
        """

    async def confirm_term(self, term: int, takeover_ms: float) -> None:
        """Note how long the takeover took, in milliseconds."""

    async def end_term(self, term: int, standing: Standing) -> None:
        """Note how the term ended."""

    def record(self, term: int, entries: Sequence[Entry]) -> Awaitable[list[bool]]:
        """Write all entries in one transaction, in order; for each, whether it took effect (a claim: was granted).

        What is returned may be a future that is done already: a ledger at hand is the quicker for it.
        Raises ``StaleTermError`` if a later term has begun; then nothing was written.
        """

    async def changes(self) -> State | None:
        """How things stand, if anybody else has written since this was asked last; otherwise None."""

    async def prune(self, before: datetime, at_most: int) -> int:
        """Remove up to ``at_most`` rows of history older than ``before``; returns how many were removed."""

    async def request(self, action: Action, *, job_id: str | None = None, term: int | None = None) -> int:
        """Ask the leader for something; returns the request's number."""

    async def pause(self, job_id: str, paused: bool) -> None:
        """Pause or resume a job from now on. Raises ``UnknownJobError``."""

    async def store_job(self, job_id: str, trigger: Mapping[str, Any], job: StoredJob, *, replace: bool) -> None:
        """Add a job at run time. Raises ``JobDefinitionError`` if the id is taken."""

    async def remove_job(self, job_id: str) -> None:
        """Remove a job that was added at run time; its history stays. Raises ``UnknownJobError``."""
